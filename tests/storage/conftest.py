"""What tests of the storage share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.storage.backends import MemoryBackend, PostgresBackend, SqliteBackend


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klinetrio.storage.protocol import KlineStore
    from tests.storage.backends import Backend


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return a new database of each kind."""
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "sqlite":
        return SqliteBackend(tmp_path / "some" / "where" / "klines.db")
    return PostgresBackend(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(backend: Backend) -> Iterator[KlineStore]:
    """Return an open database that is attached to the plain registry."""
    database = backend.opened()
    yield database
    database.close()
