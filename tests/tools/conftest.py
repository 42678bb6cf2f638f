"""What tests of the tools share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.storage.backends import PostgresBackend, SqliteBackend


if TYPE_CHECKING:
    from pathlib import Path

    from tests.storage.backends import Backend


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return a new database of each kind that a URL can name."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path / "some" / "where" / "klines.db")
    return PostgresBackend(request.getfixturevalue("postgres_url"))
