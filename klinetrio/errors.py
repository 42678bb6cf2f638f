"""Every error that klinetrio raises on purpose.

KlinetrioError
 ├── ConfigError            the configuration cannot be used; names key, value and expectation
 ├── DecodeError            bytes of the exchange are not what its protocol says (carries a kind)
 ├── ScaleError             a number does not fit its symbol's fixed scale or 64 bits
 ├── ArchiveError           a file of the public archives cannot be taken; names file and line
 ├── NetworkError           the network failed; trying again may help
 │    ├── ProxyError        ... at the SOCKS5 proxy: not listening, refusing, silent
 │    └── FeedLost          ... on a trade stream: closed, dead or silent
 ├── ExchangeError          the exchange answered, but not with what was asked
 │    ├── RateLimited       ... because we asked too often; carries how long to wait
 │    └── Refused           ... and never will, however often it is asked
 ├── StoreError             the database failed; trying again may help
 │    ├── StoreAway         ... because its server cannot be asked just now
 │    ├── SchemaError       ... because its schema is not one this version can use
 │    ├── ClaimError        ... because another daemon keeps it; tells which
 │    └── ScalesChanged     ... because another process has rescaled its bars
 ├── QueryError             a running daemon does not answer what it was asked
 ├── ExportError            stored bars cannot be written to a file; says which file and why
 ├── CopyError              a database does not hold what another one does, after copying
 └── GaveUp                 a supervised part kept failing

Errors of libraries are mapped to these once, in the module that touches the library.
Messages say "expected X, was Y".
"""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from pathlib import Path


# The HTTP status for whoever asks from a place that the exchange does not serve.
RESTRICTED_LOCATION = 451


class KlinetrioError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(KlinetrioError):
    """The configuration cannot be used.

    Args:
        key: Dotted path of the key, as in ``engine.swap_interval_ms``.
        value: What was given.
        expected: What would have been accepted, in words.
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(f"{key}: expected {expected}, was {value!r}")
        self.key = key
        self.value = value
        self.expected = expected


class DecodeError(KlinetrioError):
    """Bytes of the exchange are not what its protocol says.

    Args:
        kind: Short stable name to count and to log by, as in ``garbage`` or ``precision``.
        detail: What exactly was wrong.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class ScaleError(KlinetrioError):
    """A number does not fit its symbol's fixed scale or 64 bits.

    Args:
        text: What exactly was wrong.
        kind: ``precision`` for too many decimals, ``range`` for more than 64 bits, ``field`` for
            no number at all.
    """

    def __init__(self, text: str, kind: str = "range") -> None:
        super().__init__(text)
        self.kind = kind


class ArchiveError(KlinetrioError):
    """A file of the exchange's public archives cannot be taken.

    Args:
        path: The file.
        detail: What exactly was wrong.
        line: Where, counted from 1; None if it is the file as a whole.
    """

    def __init__(self, path: Path, detail: str, line: int | None = None) -> None:
        where = f"{path.name}" if line is None else f"{path.name} line {line}"
        super().__init__(f"{where}: {detail}")
        self.path = path
        self.line = line
        self.detail = detail


class NetworkError(KlinetrioError):
    """The network failed; trying again may help."""


class ProxyError(NetworkError):
    """The SOCKS5 proxy is not listening, refuses or stays silent."""


class FeedLost(NetworkError):
    """A trade stream closed, died or fell silent."""


class ExchangeError(KlinetrioError):
    """The exchange answered, but not with what was asked.

    Args:
        status: HTTP status.
        code: The exchange's own error code, 0 if there was none.
        message: The exchange's own text.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(f"HTTP {status}, code {code}: {message}")
        self.status = status
        self.code = code


class RateLimited(ExchangeError):
    """We asked too often; ``retry_after_s`` says how long to stay quiet."""

    def __init__(self, status: int, code: int, message: str, retry_after_s: float) -> None:
        super().__init__(status, code, message)
        self.retry_after_s = retry_after_s


class Refused(ExchangeError):
    """The exchange will not answer that, however often it is asked."""

    @property
    def is_for_us(self) -> bool:
        """Whether it refuses everything that comes from here, and not this question alone."""
        return self.status == RESTRICTED_LOCATION


class StoreError(KlinetrioError):
    """The database failed; trying again may help."""


class StoreAway(StoreError):
    """The database's server does not answer, is just starting, or is in trouble of its own."""


class SchemaError(StoreError):
    """The database's schema is not one that this version can use."""


class ClaimError(StoreError):
    """Another daemon folds live trades into the database.

    Args:
        database: Its file, or its URL without the password.
        holder: The process that keeps it, as far as it can be told.
    """

    def __init__(self, database: object, holder: str) -> None:
        super().__init__(f"expected {database} to be free, was in use by the daemon of {holder}")
        self.database = database
        self.holder = holder


class ScalesChanged(StoreError):
    """Another process has rescaled the bars since we opened the database; opening it anew helps."""


class QueryError(KlinetrioError):
    """A running daemon does not answer, or not with what it was asked for."""


class ExportError(KlinetrioError):
    """Stored bars cannot be written to a file: there are none, or the file will not have them."""


class CopyError(KlinetrioError):
    """A database does not hold all of another one, after copying; the table says what."""


class GaveUp(KlinetrioError):
    """A supervised part kept failing."""
