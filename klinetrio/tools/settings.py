"""The options that the daemon and the tools have in common, and the configuration they make."""

from __future__ import annotations

import os
import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from klinetrio.config import load_config
from klinetrio.domain.moment import parse_moment
from klinetrio.errors import ConfigError
from klinetrio.logs import LEVELS, setup_logging
from klinetrio.process import fail


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.config import Config

_KEYS = {
    "symbols": "exchange.symbols",
    "intervals": "engine.intervals",
    "proxy": "proxy.url",
    "storage": "storage.url",
    "bind": "api.bind",
    "log_level": "log.level",
}

_OPTIONS = {
    "symbols": click.option(
        "--symbols", help="As BTCUSDT,ETHUSDT or BTC_USDT,ETH_USDT; all if not given."
    ),
    "intervals": click.option(
        "--intervals",
        help="As 1m,1h, separated by commas; those of the configuration if not given.",
    ),
    "proxy": click.option("--proxy", help='socks5h://host:port, or "" to connect directly.'),
    "storage": click.option(
        "--storage", help="sqlite:///path.db or postgresql://user@host:port/database."
    ),
    "bind": click.option("--bind", help="host:port of the interfaces."),
    "log_level": click.option("--log-level", type=click.Choice(LEVELS), help="How much to log."),
}


def takes_settings(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command ``--config`` and these options; it is called with the configuration first.

    A configuration that cannot be used ends the process.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(path: Path | None = None, **options: Any) -> Any:
            settings = {name: options.pop(name, None) for name in names}
            return command(read_settings(path, settings), **options)

        for name in reversed(names):
            run = _OPTIONS[name](run)
        return click.option("--config", "path", type=click.Path(path_type=Path), help="TOML file.")(
            run
        )

    return decorate


def read_settings(path: Path | None, settings: dict[str, str | None]) -> Config:
    """Return the configuration of file, environment and options, and set up logging by it."""
    overrides: dict[str, Any] = {}
    for name, value in settings.items():
        if value is not None:
            listed = name in {"symbols", "intervals"}
            parts = [part.strip() for part in value.split(",") if part.strip()]
            overrides[_KEYS[name]] = parts if listed else value
    try:
        config = load_config(path, os.environ, overrides)
    except ConfigError as error:
        fail(error)
    setup_logging(config.log.level, sys.stderr)
    return config


def to_moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Return an option's moment in UTC ms."""
    try:
        return None if text is None else parse_moment(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
