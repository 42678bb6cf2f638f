"""The URL of a PostgreSQL database: read, and shown without its password.

Invariant (tested in tests/storage/test_postgres_refusals.py):
  I1  Nothing that is returned as text, and no error, holds a part of a password.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from klinetrio.errors import ConfigError


_HIGHEST_PORT = 65_535

# Where in a URL its parts are: before the question mark, or nowhere.
_NAMED = {"user", "host", "port", "dbname"}
_SECRET = {"password", "sslpassword"}


def parsed(url: str) -> dict[str, Any]:
    """Return the settings that a URL holds.

    Raises:
        ConfigError: libpq cannot read it, or it can never work; tells no part of a password.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        expected = "a URL that libpq can read"
        # Other texts may hold the whole URL, and so may the cause.
        if "query parameter" in str(error):
            expected += f" ({reason(error)})"
        raise ConfigError("storage.url", "postgresql://...", expected) from None
    # libpq would take either for a server that does not answer, and messages would show parts of a
    # password.
    if "@" in f"{given.get('host', '')}{given.get('dbname', '')}":
        expected = "one @, before the host: in a password write %40 for @ and %2F for /"
        raise ConfigError("storage.url", "postgresql://...", expected)
    for port in str(given.get("port", "")).split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
            expected = "a port from 1 to 65535 behind the host: in a password write %2F for /"
            raise ConfigError("storage.url", "postgresql://...", expected)
    return given


def shown(given: dict[str, Any]) -> str:
    """Return the database that settings name, for messages."""
    host, port = given.get("host", "localhost"), given.get("port", 5432)
    user = f"{given['user']}@" if "user" in given else ""
    return f"postgresql://{user}{host}:{port}/{given.get('dbname', '')}"


def typed(given: dict[str, Any]) -> str:
    """Return the URL to be typed again; what is secret in it is asked for, or found, elsewhere."""
    rest = {name: value for name, value in given.items() if name not in _NAMED | _SECRET}
    return shown(given) + (f"?{urlencode(rest, quote_via=quote)}" if rest else "")


def reason(error: psycopg.Error) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split())
