"""The configuration: defaults, file, environment and flags, in that order, checked as a whole.

An unknown key, a wrong type or an impossible value ends the start with the key's path, the value
and what was expected.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs
from attrs import field, frozen

from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS
from klinetrio.domain.moment import EXPECTED as MOMENT
from klinetrio.domain.moment import parse_moment
from klinetrio.errors import ConfigError
from klinetrio.exchange.dial import parse_proxy, without_password
from klinetrio.exchange.feed import MAX_STREAMS
from klinetrio.logs import LEVELS


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BOOLEANS = {"true": True, "false": False}

ENVIRONMENT_PREFIX = "KLINETRIO_"


def _check(expected: str, accept: Callable[[Any], bool]) -> Callable[[Any, Any, Any], None]:
    """Return an attrs validator that raises ConfigError with ``expected`` in its words."""

    def validate(instance: object, attribute: Any, value: Any) -> None:
        section = type(instance).__name__.lower()
        try:
            good = accept(value)
        except (TypeError, ValueError):
            good = False
        if not good:
            shown = without_password(value) if isinstance(value, str) else value
            raise ConfigError(f"{section}.{attribute.name}", shown, expected)

    return validate


def _url(*schemes: str) -> Callable[[Any, Any, Any], None]:
    def accept(value: str) -> bool:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0

    return _check(f"a URL with {' or '.join(s + '://' for s in schemes)}", accept)


def _between(low: float, high: float) -> Callable[[Any, Any, Any], None]:
    return _check(f"a number from {low:g} to {high:g}", lambda value: low <= value <= high)


def _intervals() -> Callable[[Any, Any, Any], None]:
    expected = f"a list of {' '.join(INTERVALS)}"
    return _check(expected, lambda value: bool(value) and all(name in INTERVALS for name in value))


def _texts(value: tuple[str, ...]) -> bool:
    return all(text and text == text.strip() for text in value)


def _proxy(_instance: object, _attribute: Any, value: str) -> None:
    parse_proxy(value)


def _storage_url(value: str) -> bool:
    named = value.startswith("sqlite:///") and len(value) > len("sqlite:///")
    return named or value.startswith(("postgresql://", "postgres://"))


def _folder(value: str) -> bool:
    return "\0" not in value and value == value.strip()


def _moment(value: str) -> bool:
    return not value or parse_moment(value) >= 0


def _bind(value: str) -> bool:
    parts = urlsplit(f"//{value}")
    bare = value == parts.netloc and "@" not in value
    return bare and bool(parts.hostname) and parts.port is not None


@frozen
class Exchange:
    """Where the trades come from, and of which symbols."""

    rest_url: str = field(default="https://fapi.binance.com", validator=_url("https", "http"))
    ws_url: str = field(default="wss://fstream.binance.com/market", validator=_url("wss", "ws"))
    symbols: tuple[str, ...] = field(default=(), validator=_check("a list of names", _texts))
    contract_types: tuple[str, ...] = field(
        default=("PERPETUAL",), validator=_check("a list of names", _texts)
    )
    quote_assets: tuple[str, ...] = field(default=(), validator=_check("a list of names", _texts))
    streams_per_connection: int = field(default=1, validator=_between(1, MAX_STREAMS))
    connects_per_minute: int = field(default=240, validator=_between(1, 60_000))
    weight_share: float = field(default=0.8, validator=_between(0.05, 1))


@frozen
class Proxy:
    """The SOCKS5 proxy; an empty URL connects directly."""

    url: str = field(default="socks5h://127.0.0.1:1080", validator=_proxy, repr=False)


@frozen
class Engine:
    """Which bars are kept and when they close."""

    intervals: tuple[str, ...] = field(default=DEFAULT_INTERVALS, validator=_intervals())
    swap_interval_ms: int = field(default=100, validator=_between(10, 10_000))
    close_grace_ms: int = field(default=1_000, validator=_between(0, 30_000))


@frozen
class Storage:
    """Where bars are kept for ever."""

    url: str = field(
        default="sqlite:///klinetrio.db",
        validator=_check(
            "sqlite:///path or postgresql://user:password@host:port/database", _storage_url
        ),
        repr=False,
    )
    flush_interval_s: float = field(default=5.0, validator=_between(0.1, 300))
    spool: str = field(default="", validator=_check("a directory", _folder))

    @property
    def spool_folder(self) -> Path:
        """Where closed bars wait for the database: beside its file unless told otherwise."""
        if self.spool:
            return Path(self.spool)
        file = self.url.removeprefix("sqlite:///")
        return Path("klinetrio.spool" if file == self.url else f"{file}.spool")

    @property
    def spool_owner(self) -> str:
        """Whose bars wait there: the database, without a password.

        Of a file only its name, so that file and spool can be moved together.
        """
        file = self.url.removeprefix("sqlite:///")
        return without_password(self.url) if file == self.url else Path(file).name


@frozen
class History:
    """How far back closed bars are fetched from the exchange."""

    since: str = field(default="", validator=_check(f"{MOMENT}, or nothing", _moment))

    @property
    def since_ms(self) -> int | None:
        """The same in UTC ms; None if only holes are to be filled."""
        return parse_moment(self.since) if self.since else None


@frozen
class Audit:
    """The comparison of closed bars with the exchange's own klines."""

    settle: bool = True
    weight_per_minute: int = field(default=100, validator=_between(0, 2_400))


@frozen
class Api:
    """Where the interfaces are served."""

    bind: str = field(default="127.0.0.1:8080", validator=_check("host:port", _bind))


@frozen
class Stats:
    """The line of statistics."""

    interval_s: float = field(default=60.0, validator=_between(1, 86_400))


@frozen
class Log:
    """What is logged."""

    level: str = field(
        default="info",
        validator=_check(f"one of {', '.join(LEVELS)}", lambda value: value in LEVELS),
    )


@frozen
class Config:
    """All sections."""

    exchange: Exchange = field(factory=Exchange)
    proxy: Proxy = field(factory=Proxy)
    engine: Engine = field(factory=Engine)
    storage: Storage = field(factory=Storage)
    history: History = field(factory=History)
    audit: Audit = field(factory=Audit)
    api: Api = field(factory=Api)
    stats: Stats = field(factory=Stats)
    log: Log = field(factory=Log)


_SECTIONS: dict[str, type[Any]] = {
    each.name: each.default.factory  # type: ignore[union-attr]
    for each in attrs.fields(Config)
}


def default_file() -> Path:
    """Return the commented default file, which is shipped inside the package.

    In a checkout that is installed for development it lies in ``conf`` beside the package.
    """
    package = Path(__file__).parent
    shipped = package / "klinetrio.toml"
    return shipped if shipped.exists() else package.parent / "conf" / "klinetrio.toml"


def load_config(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration.

    Args:
        path: A TOML file; only defaults if None.
        environment: Variables, of which those that begin with ``KLINETRIO_`` count.
        overrides: By dotted key, as ``{"api.bind": "127.0.0.1:0"}``; they win over all else.

    Raises:
        ConfigError: Anything is wrong with any of it.
    """
    values = _read_file(path) if path is not None else {}
    for name, text in (environment or {}).items():
        if name.startswith(ENVIRONMENT_PREFIX):
            section, key = _split_variable(name)
            values.setdefault(section, {})[key] = _from_text(f"{section}.{key}", text)
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        values.setdefault(section, {})[key] = value
    return Config(**{name: _build(name, table) for name, table in values.items()})


def _read_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError("--config", str(path), f"a readable file ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", str(path), f"a TOML file ({error})") from error
    for section, table in values.items():
        if section not in _SECTIONS or not isinstance(table, dict):
            raise ConfigError(section, table, f"one of the sections {', '.join(_SECTIONS)}")
    return values


def _split_variable(name: str) -> tuple[str, str]:
    rest = name.removeprefix(ENVIRONMENT_PREFIX).lower()
    section, _, key = rest.partition("_")
    if section not in _SECTIONS:
        raise ConfigError(name, "...", f"{ENVIRONMENT_PREFIX}<SECTION>_<KEY> of a known section")
    return section, key


def _kind_of(dotted: str) -> str:
    """Return a key's type as it is written in its class."""
    section, _, key = dotted.partition(".")
    if section not in _SECTIONS:
        raise ConfigError(dotted, "...", f"one of the sections {', '.join(_SECTIONS)}")
    kinds = {each.name: str(each.type) for each in attrs.fields(_SECTIONS[section])}
    if key not in kinds:
        raise ConfigError(dotted, "...", f"one of the keys {', '.join(kinds)}")
    return kinds[key]


def _from_text(dotted: str, text: str) -> object:
    """Return an environment variable's text as the type of its key."""
    kind = _kind_of(dotted)
    if kind in {"int", "float"}:
        try:
            return int(text) if kind == "int" else float(text)
        except ValueError:
            raise ConfigError(dotted, text, f"a number ({kind})") from None
    if kind == "bool":
        if text.strip().lower() not in _BOOLEANS:
            raise ConfigError(dotted, text, "true or false")
        return _BOOLEANS[text.strip().lower()]
    if kind == "tuple[str, ...]":
        return [part.strip() for part in text.split(",")] if text.strip() else []
    return text


def _build(section: str, table: Mapping[str, Any]) -> Any:
    values = {}
    for key, value in table.items():
        dotted = f"{section}.{key}"
        values[key] = _typed(dotted, _kind_of(dotted), value)
    return _SECTIONS[section](**values)


def _typed(dotted: str, kind: str, value: Any) -> object:
    """Return a file's value as its key's type, refusing what is merely similar."""
    if kind == "tuple[str, ...]":
        if isinstance(value, (list, tuple)) and all(type(each) is str for each in value):
            return tuple(value)
        raise ConfigError(dotted, value, "a list of texts")
    if kind == "float" and type(value) in {int, float}:
        return float(value)
    if kind == type(value).__name__:
        return value
    names = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
    raise ConfigError(dotted, value, names[kind])
