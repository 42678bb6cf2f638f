"""Which database a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from klinetrio.errors import ConfigError
from klinetrio.storage.sqlite import SqliteStore


if TYPE_CHECKING:
    from klinetrio.storage.protocol import KlineStore

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")

EXPECTED = "sqlite:///path or postgresql://user:password@host:port/database"


def is_store_url(url: str) -> bool:
    """Tell whether a URL looks like that of a database."""
    if url.startswith(_SQLITE):
        return len(url) > len(_SQLITE)
    return url.startswith(_POSTGRES)


def open_store(url: str) -> KlineStore:
    """Return the store that a URL names; it is not opened yet.

    Raises:
        ConfigError: It names none.
    """
    if url.startswith(_POSTGRES):
        # Not at the head of the module: whoever has a file needs neither the library nor its time.
        from klinetrio.storage.postgres import PostgresStore  # noqa: PLC0415

        return PostgresStore(url)
    path = url.removeprefix(_SQLITE)
    if path == ":memory:":
        # Each connection would see a database of its own.
        raise ConfigError("storage.url", url, "sqlite:///path of a file")
    return SqliteStore(Path(path))
