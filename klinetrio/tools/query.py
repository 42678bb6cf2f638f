"""``python -m klinetrio query``: the newest bars of one series as a table in the terminal.

The running daemon is asked, because it alone knows the open bar as it is now and what is not written
yet; where none runs, the database.
"""

from __future__ import annotations

import logging
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click
import httpx2

from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.moment import format_moment
from klinetrio.errors import ConfigError, QueryError, StoreError
from klinetrio.logs import log_event
from klinetrio.process import EXIT_FAILURE, fail
from klinetrio.tools.settings import takes_settings
from klinetrio.tools.stored import open_stored


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from klinetrio.config import Config

log = logging.getLogger("klinetrio.query")

MAX_LIMIT = 1_500

# Of a daemon on the same machine, or one hop away.
_TIMEOUT_S = 15.0

_FOUND = 200

# An address that means "all of this machine" is none to connect to.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  (not bound here)

# Heading, field, and whether it is there in a narrow terminal.
_COLUMNS = (
    ("open", "open", True),
    ("high", "high", True),
    ("low", "low", True),
    ("close", "close", True),
    ("volume", "volume", True),
    ("quote volume", "quote_volume", False),
    ("trades", "trade_count", True),
    ("taker buy", "taker_buy_volume", False),
)

_WIDE = 120


@click.command()
@takes_settings("storage", "bind", "log_level")
@click.argument("symbol")
@click.argument("interval", type=click.Choice(list(INTERVALS)), metavar="INTERVAL")
@click.option(
    "--limit", type=click.IntRange(1, MAX_LIMIT), default=20, show_default=True, help="Bars."
)
@click.option(
    "--from",
    "source",
    type=click.Choice(["daemon", "database"]),
    help="Where from; the daemon if it answers, else the database.",
)
def query(config: Config, *, symbol: str, interval: str, limit: int, source: str | None) -> None:
    """Print the newest bars of SYMBOL as a table, as `query BTC_USDT 1m`.

    The last line is the open bar.  Of each bar it says whether it is proved complete.
    """
    try:
        bars = find_bars(config, symbol, interval, limit=limit, source=source)
    except ConfigError as error:
        fail(error)
    except (QueryError, StoreError) as error:
        log_event(log, logging.ERROR, "failed", cause=error)
        sys.exit(EXIT_FAILURE)
    wide = not sys.stdout.isatty() or shutil.get_terminal_size().columns >= _WIDE
    for line in table(bars, wide=wide):
        click.echo(line)


def find_bars(
    config: Config, symbol: str, interval: str, *, limit: int, source: str | None = None
) -> list[dict[str, Any]]:
    """Return the newest bars, ascending, as interface v1 shows them.

    Args:
        config: Where daemon and database are.
        symbol: By public or by exchange name.
        interval: As ``1m``.
        limit: How many at most.
        source: ``daemon`` or ``database``; None for the first of them that is there.

    Raises:
        ConfigError: The database does not exist, or does not know the symbol.
        QueryError: The daemon does not answer, or not with bars.
        StoreError: The database failed.
    """
    if source != "database":
        address = _address_of(config.api.bind)
        try:
            return _ask(address, symbol, interval, limit)
        except httpx2.TransportError as error:
            text = f"no daemon answers at {address}: {str(error) or type(error).__name__}"
            if source == "daemon":
                raise QueryError(text) from error
            log_event(log, logging.INFO, "from_database", because=text)
    return _read(config, symbol, interval, limit)


def _address_of(bind: str) -> str:
    host, _, port = bind.rpartition(":")
    return f"http://{_ANYWHERE.get(host, host)}:{port}"


def _ask(address: str, symbol: str, interval: str, limit: int) -> list[dict[str, Any]]:
    """Return what the daemon answers.

    Raises:
        TransportError: Nobody answers.
        QueryError: It is not what was asked for.
    """
    parameters = {"symbol": symbol, "interval": interval, "limit": str(limit)}
    with httpx2.Client(trust_env=False, timeout=_TIMEOUT_S) as client:
        reply = client.get(f"{address}/api/v1/klines", params=parameters)
    try:
        answer = reply.json()
    except ValueError:
        answer = None
    if reply.status_code == _FOUND and isinstance(answer, list):
        return answer
    said = f"expected klines, was HTTP {reply.status_code}"
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        said = str(answer["error"].get("message", said))
    raise QueryError(f"{address}: {said}")


def _read(config: Config, symbol: str, interval: str, limit: int) -> list[dict[str, Any]]:
    """Return what is stored, with the open bar as it was last written."""
    stored = open_stored(config.storage.url, [symbol], INTERVALS[interval])
    try:
        return [stored.series[0].kline(bar) for bar in stored.newest(0, limit)]
    finally:
        stored.close()


def table(bars: Sequence[Mapping[str, Any]], *, wide: bool) -> Iterable[str]:
    """Return the lines of a table, its heading first.

    Args:
        bars: As interface v1 shows them.
        wide: Whether all columns are to be shown.
    """
    columns = [(heading, field) for heading, field, always in _COLUMNS if wide or always]
    cells = [[heading for heading, _ in columns]]
    cells += [[str(bar[field]) for _, field in columns] for bar in bars]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    marks = ["", *(_marks_of(bar) for bar in bars)]
    times = ["open time (UTC)", *(format_moment(bar["open_time"]) for bar in bars)]
    for time, row, mark in zip(times, cells, marks, strict=True):
        padded = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield f"{time:<19}  {'  '.join(padded)}  {mark}".rstrip()


def _marks_of(bar: Mapping[str, Any]) -> str:
    """Return in words what a bar is."""
    words = ["complete" if bar["is_complete"] else "incomplete"]
    if not bar["is_final"]:
        words.insert(0, "open,")
    if bar["origin"] != "live":
        words.append(bar["origin"])
    if bar["revision"]:
        words.append(f"revision {bar['revision']}")
    return " ".join(words)
