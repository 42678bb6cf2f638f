"""What tests of PostgreSQL alone share; a module takes the fixtures that it imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klinetrio.storage.postgres import PostgresStore
from tests.postgres import PostgresServer, open_server
from tests.storage.backends import PostgresBackend
from tests.storage.bars import registry


if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def backend(postgres_url: str) -> PostgresBackend:
    """Return an empty schema."""
    return PostgresBackend(postgres_url)


@pytest.fixture
def store(backend: PostgresBackend) -> Iterator[PostgresStore]:
    """Return a store that is attached to the plain registry."""
    database = opened(backend.url)
    yield database
    database.close()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a server that a test may stop and kill."""
    with open_server() as own:
        yield own


def opened(url: str) -> PostgresStore:
    """Return a store that is open and attached."""
    database = PostgresStore(url)
    database.open()
    database.attach(registry())
    return database
