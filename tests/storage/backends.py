"""Databases of every kind, for tests of what they all promise."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING

import attrs
import psycopg
import pytest

from klinetrio.storage.postgres import PostgresStore
from klinetrio.storage.sqlite import SqliteStore
from tests.storage.bars import registry
from tests.storage.memory import Disk, MemoryStore


if TYPE_CHECKING:
    from pathlib import Path

    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import KlineStore

# For tests that ask in SQL, or of what a database keeps in a file or on a server.
with_sql = pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)


class Backend(ABC):
    """One database, empty at first, that can be opened any number of times."""

    @abstractmethod
    def make(self) -> KlineStore:
        """Return a store that is not open."""

    @abstractmethod
    def query(self, text: str) -> list[tuple[object, ...]]:
        """Ask the database as a person at its prompt would."""

    def opened(self, known: SymbolPeriodRegistry | None = None) -> KlineStore:
        """Return a store that is open and attached, to the plain registry unless told otherwise."""
        store = self.make()
        store.open()
        store.attach(known or registry())
        return store


@attrs.frozen
class SqliteBackend(Backend):
    """A file."""

    path: Path

    def make(self) -> SqliteStore:
        """Return a store that is not open."""
        return SqliteStore(self.path)

    def query(self, text: str) -> list[tuple[object, ...]]:
        """Ask the file as a person with the sqlite3 prompt would."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(text).fetchall()


@attrs.frozen
class PostgresBackend(Backend):
    """A database of a server."""

    url: str

    def make(self) -> PostgresStore:
        """Return a store that is not open."""
        return PostgresStore(self.url)

    def query(self, text: str) -> list[tuple[object, ...]]:
        """Ask the server as a person with psql would."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []


@attrs.frozen
class MemoryBackend(Backend):
    """Dictionaries."""

    disk: Disk = attrs.field(factory=Disk)

    def make(self) -> MemoryStore:
        """Return a store that is not open."""
        return MemoryStore(self.disk)

    def query(self, text: str) -> list[tuple[object, ...]]:
        """Refuse: nobody has a prompt there."""
        raise NotImplementedError(text)


def rows_of(store: KlineStore, series: int = 0) -> list[list[int]]:
    """Return all bars of a series."""
    rows: list[list[int]] = store.read(series, start=None, end=None, limit=10_000).tolist()
    return rows
