"""A configuration is taken as a whole or refused by name."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.config import Config, load_config
from klinetrio.errors import ConfigError


DEFAULT_FILE = Path(__file__).parents[1] / "conf" / "klinetrio.toml"

# Every key with another value than the default: as environment text, and as it must arrive.
OTHER_VALUES: dict[str, tuple[str, Any]] = {
    "exchange.rest_url": ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    "exchange.ws_url": ("ws://127.0.0.1:8001/market", "ws://127.0.0.1:8001/market"),
    "exchange.symbols": ("BTCUSDT, 币安人生USDT", ("BTCUSDT", "币安人生USDT")),
    "exchange.contract_types": ("", ()),
    "exchange.quote_assets": ("USDT,USDC", ("USDT", "USDC")),
    "exchange.streams_per_connection": ("200", 200),
    "exchange.connects_per_minute": ("60", 60),
    "exchange.weight_share": ("0.5", 0.5),
    "proxy.url": ("", ""),
    "engine.intervals": ("1M,1m", ("1M", "1m")),
    "engine.swap_interval_ms": ("250", 250),
    "engine.close_grace_ms": ("0", 0),
    "storage.url": ("sqlite:////var/lib/klines.db", "sqlite:////var/lib/klines.db"),
    "storage.flush_interval_s": ("0.5", 0.5),
    "storage.spool": ("/var/spool/klinetrio", "/var/spool/klinetrio"),
    "history.since": ("2024-01-31T12:00", "2024-01-31T12:00"),
    "audit.settle": ("False", False),
    "audit.weight_per_minute": ("0", 0),
    "api.bind": ("[::1]:9000", "[::1]:9000"),
    "stats.interval_s": ("10", 10.0),
    "log.level": ("debug", "debug"),
}


def value_of(config: Config, dotted: str) -> Any:
    """Return the value of a dotted key."""
    section, _, key = dotted.partition(".")
    return getattr(getattr(config, section), key)


def keys() -> list[str]:
    """Return all dotted keys."""
    return [
        f"{section.name}.{key}"
        for section in attrs.fields(Config)
        for key in attrs.asdict(getattr(Config(), section.name))
    ]


def variable(dotted: str) -> str:
    """Return the environment variable of a key."""
    return f"KLINETRIO_{dotted.replace('.', '_').upper()}"


def write(folder: Path, text: str) -> Path:
    """Return a configuration file."""
    path = folder / "klinetrio.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_shipped_file_is_the_defaults_exactly() -> None:
    """Every key of the code is in the file with its default, and no other."""
    tables = tomllib.loads(DEFAULT_FILE.read_text("utf-8"))
    in_file = [f"{section}.{key}" for section, table in tables.items() for key in table]
    assert sorted(keys()) == sorted(in_file)
    assert Config() == load_config(DEFAULT_FILE)
    assert Config() == load_config()


def test_every_key_of_the_file_has_a_comment() -> None:
    """Nobody has to read the code to know what a key does."""
    lines = DEFAULT_FILE.read_text("utf-8").splitlines()
    for before, line in pairwise(lines):
        if re.match(r"\w+ =", line):
            assert before.startswith("#"), line


@pytest.mark.parametrize("dotted", keys())
def test_the_environment_overrides_every_key(dotted: str) -> None:
    """Nothing but this one key changes."""
    text, expected = OTHER_VALUES[dotted]
    config = load_config(DEFAULT_FILE, {variable(dotted): text, "HOME": "/root"})
    assert expected == value_of(config, dotted)
    assert type(expected) is type(value_of(config, dotted))
    for other in set(keys()) - {dotted}:
        assert value_of(Config(), other) == value_of(config, other)


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """Each source only where no stronger one speaks."""
    path = write(
        tmp_path,
        '[engine]\nswap_interval_ms = 20\nclose_grace_ms = 20\n[log]\nlevel = "error"\n',
    )
    environment = {variable("engine.swap_interval_ms"): "30", variable("log.level"): "warning"}
    config = load_config(path, environment, {"log.level": "debug"})
    expected = (20, 30, "debug", 5.0)
    assert expected == (
        config.engine.close_grace_ms,
        config.engine.swap_interval_ms,
        config.log.level,
        config.storage.flush_interval_s,
    )


@pytest.mark.parametrize(
    ("dotted", "value", "expected"),
    [
        ("exchange.rest_url", "fapi.binance.com", "a URL with https:// or http://"),
        ("exchange.rest_url", "wss://fapi.binance.com", "a URL with https:// or http://"),
        ("exchange.rest_url", "https://", "a URL with https:// or http://"),
        ("exchange.rest_url", "https://host:99999", "a URL with https:// or http://"),
        ("exchange.rest_url", "https://host:port", "a URL with https:// or http://"),
        ("exchange.ws_url", "https://fstream.binance.com", "a URL with wss:// or ws://"),
        ("exchange.symbols", "BTCUSDT", "a list of texts"),
        ("exchange.symbols", ["BTCUSDT", 5], "a list of texts"),
        ("exchange.symbols", ["BTCUSDT", ""], "a list of names"),
        ("exchange.contract_types", [" PERPETUAL"], "a list of names"),
        ("exchange.quote_assets", [""], "a list of names"),
        ("exchange.streams_per_connection", 0, "a number from 1 to 1024"),
        ("exchange.streams_per_connection", 1_025, "a number from 1 to 1024"),
        ("exchange.streams_per_connection", 1.0, "a whole number"),
        ("exchange.streams_per_connection", True, "a whole number"),
        ("exchange.connects_per_minute", 0, "a number from 1 to 60000"),
        ("proxy.url", "http://127.0.0.1:1080", "socks5h://[user:password@]host[:port]"),
        ("proxy.url", "127.0.0.1:1080", "socks5h://[user:password@]host[:port]"),
        ("proxy.url", "socks5h://", "socks5h://[user:password@]host[:port]"),
        ("proxy.url", "socks5h://host:99999", "socks5h://[user:password@]host[:port]"),
        ("proxy.url", "socks5h://host:1080/path", "socks5h://[user:password@]host[:port]"),
        ("proxy.url", 1080, "a text"),
        ("engine.intervals", [], "a list of 1m 3m 5m"),
        ("engine.intervals", ["1m", "1s"], "a list of 1m 3m 5m"),
        ("engine.intervals", [60], "a list of texts"),
        ("engine.swap_interval_ms", 9, "a number from 10 to 10000"),
        ("engine.swap_interval_ms", "100", "a whole number"),
        ("engine.close_grace_ms", -1, "a number from 0 to 30000"),
        ("storage.url", "klinetrio.db", "sqlite:///path"),
        ("storage.url", "sqlite:///", "sqlite:///path"),
        ("storage.flush_interval_s", 0, "a number from 0.1 to 300"),
        ("storage.flush_interval_s", float("nan"), "a number from 0.1 to 300"),
        ("storage.flush_interval_s", float("inf"), "a number from 0.1 to 300"),
        ("storage.flush_interval_s", True, "a number"),
        ("storage.flush_interval_s", "5", "a number"),
        ("api.bind", "8080", "host:port"),
        ("api.bind", "127.0.0.1", "host:port"),
        ("api.bind", ":8080", "host:port"),
        ("api.bind", "127.0.0.1:port", "host:port"),
        ("api.bind", "127.0.0.1:70000", "host:port"),
        ("api.bind", "http://127.0.0.1:8080", "host:port"),
        ("api.bind", "127.0.0.1:8080/", "host:port"),
        ("api.bind", "127.0.0.1:8080?x", "host:port"),
        ("api.bind", "user@127.0.0.1:8080", "host:port"),
        ("stats.interval_s", 0.5, "a number from 1 to 86400"),
        ("log.level", "verbose", "one of debug, info, warning, error"),
        ("log.level", "INFO", "one of debug, info, warning, error"),
    ],
)
def test_a_refusal_names_key_value_and_expectation(
    dotted: str, value: object, expected: str
) -> None:
    """All three are in the message and in the error's fields."""
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={dotted: value})
    error = caught.value
    assert dotted == error.key
    assert error.expected.startswith(expected)
    same: list[object] = [value, tuple(value)] if isinstance(value, list) else [value]
    same += [float(value)] if type(value) is int else []
    assert repr(error.value).replace("...@", "user@") in map(repr, same)
    assert f"{dotted}: expected {error.expected}, was {error.value!r}" == str(error)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("KLINETRIO_ENGINE_SWAP_INTERVAL_MS", "fast", "engine.swap_interval_ms: expected a number"),
        ("KLINETRIO_ENGINE_SWAP_INTERVAL_MS", "99.5", "engine.swap_interval_ms: expected a number"),
        ("KLINETRIO_STORAGE_FLUSH_INTERVAL_S", "", "storage.flush_interval_s: expected a number"),
        ("KLINETRIO_STORAGE_FLUSH_INTERVAL_S", "nan", "storage.flush_interval_s: expected a numb"),
        ("KLINETRIO_ENGINE_INTERVALS", "1m,,1h", "engine.intervals: expected a list of 1m"),
        ("KLINETRIO_ENGINE_SPEED", "1", "engine.speed: expected one of the keys intervals, swap"),
        ("KLINETRIO_ENGINE", "1", "engine.: expected one of the keys"),
        ("KLINETRIO_MOTOR_SPEED", "1", "KLINETRIO_MOTOR_SPEED: expected KLINETRIO_<SECTION>_<KEY>"),
        ("KLINETRIO_", "1", "KLINETRIO_: expected KLINETRIO_<SECTION>_<KEY>"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(name: str, text: str, match: str) -> None:
    """A typing error in the environment ends the start, as one in the file does."""
    with pytest.raises(ConfigError, match=re.escape(match)):
        load_config(environment={name: text})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[motor]\nspeed = 1\n", "motor: expected one of the sections exchange, proxy"),
        ("speed = 1\n", "speed: expected one of the sections exchange"),
        ("engine = 1\n", "engine: expected one of the sections exchange"),
        ("[engine]\nspeed = 1\n", "engine.speed: expected one of the keys intervals"),
        ("[engine]\nintervals = '1m'\n", "engine.intervals: expected a list of texts, was '1m'"),
        ("[engine\n", "--config: expected a TOML file"),
        ("[log]\nlevel = 1979-05-27\n", "log.level: expected a text"),
        ("[log.level]\nx = 1\n", "log.level: expected a text"),
    ],
)
def test_a_wrong_file_is_refused_by_what_is_wrong(tmp_path: Path, text: str, match: str) -> None:
    """Unknown sections and keys, ill-typed values, and what is no TOML."""
    with pytest.raises(ConfigError, match=re.escape(match)):
        load_config(write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    """Missing, a directory, or not UTF-8."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "missing.toml", tmp_path, binary):
        with pytest.raises(ConfigError, match=r"--config: expected a"):
            load_config(path)


@pytest.mark.parametrize("dotted", ["motor.speed", "engine.speed", "engine", ""])
def test_an_unknown_override_is_a_configuration_error(dotted: str) -> None:
    """Overrides are checked like everything else."""
    with pytest.raises(ConfigError, match="expected one of the"):
        load_config(overrides={dotted: 1})


@given(
    st.sampled_from(keys()),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.lists(st.one_of(st.text(), st.integers())),
        st.dictionaries(st.text(), st.integers()),
    ),
)
def test_any_value_is_taken_or_refused_as_a_configuration_error(dotted: str, value: object) -> None:
    """No value crashes the start in another way."""
    try:
        load_config(overrides={dotted: value})
    except ConfigError as error:
        assert dotted == error.key  # noqa: PT017  (it need not raise)


@given(st.sampled_from(keys()), st.text())
def test_any_text_of_the_environment_is_taken_or_refused(dotted: str, text: str) -> None:
    """Likewise for texts."""
    try:
        load_config(environment={variable(dotted): text})
    except ConfigError as error:
        assert dotted == error.key  # noqa: PT017  (it need not raise)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@127.0.0.1:1080",
        f"user:{SECRET}@127.0.0.1:1080",
        f"socks5h://user:{SECRET}@",
        f"socks5h://user:{SECRET}@host:99999",
        f"socks5h://user:{SECRET}@host:{SECRET}@host:x",
        f"socks5h://user:#{SECRET}@host:1080",
        f"socks5h://user:/{SECRET}@host:1080",
        f"socks5h://user:{SECRET}/x@host:1080",
        f"socks5h://us@er:{SECRET}@host:1080/path",
        f"://user:{SECRET}@host:1080",
    ],
)
def test_a_refused_proxy_never_shows_its_password(url: str) -> None:
    """Neither in the message nor in anything the error carries along."""
    with pytest.raises(ConfigError) as caught:
        load_config(environment={"KLINETRIO_PROXY_URL": url})
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error.__dict__}"
        error = error.__cause__


@pytest.mark.parametrize(
    ("dotted", "url"),
    [
        ("storage.url", f"postgres:/user:{SECRET}@host/db"),
        ("storage.url", f"mysql://{SECRET}@host/db"),
        ("exchange.rest_url", f"ftp://user:{SECRET}@host"),
        ("exchange.ws_url", f"http://user:{SECRET}@host"),
    ],
)
def test_no_refused_url_shows_its_password(dotted: str, url: str) -> None:
    """Also where no password belongs."""
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={dotted: url})
    assert SECRET not in f"{caught.value} {caught.value.__dict__}"


def test_a_configuration_can_be_printed_without_its_secrets() -> None:
    """What stands in a log or a traceback holds no password."""
    urls = {"proxy.url": f"socks5h://user:{SECRET}@h:1", "storage.url": f"sqlite:///{SECRET}.db"}
    assert SECRET not in repr(load_config(overrides=urls))
