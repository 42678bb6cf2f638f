"""``python -m klinetrio audit``: compares stored minutes with the exchange's own klines."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import attrs
import click

from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.moment import format_moment
from klinetrio.errors import ConfigError, Refused
from klinetrio.logs import log_event
from klinetrio.process import leave_on_signal, run_to_the_end
from klinetrio.recovery.keeper import YOUNGEST_MS
from klinetrio.recovery.seeder import RIPE_MS
from klinetrio.recovery.stored_audit import StoredAudit, StoredComparison
from klinetrio.recovery.turns import in_turn
from klinetrio.storage.past_bars import PastBars
from klinetrio.tools.joined import open_joined
from klinetrio.tools.settings import takes_settings, to_moment


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.config import Config
    from klinetrio.domain.symbol import Symbol
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.recovery.judging import Finding

log = logging.getLogger("klinetrio.audit")

_COLUMNS = (
    "compared",
    "equal",
    "straddle",
    "seam",
    "count",
    "forced",
    "unexplained",
    "own",
    "unproved",
    "missing",
    "longer",
    "settled",
)

# Bars that nobody can explain are listed, but not without end.
_MOST_LISTED = 20


@click.command()
@takes_settings("symbols", "intervals", "proxy", "storage", "log_level")
@click.option(
    "--since", required=True, callback=to_moment, help="First open time, UTC, as 2024-01-31."
)
@click.option("--until", callback=to_moment, help="End, UTC, exclusive; now if not given.")
@click.option(
    "--settle/--no-settle",
    default=None,
    help="Whether to replace what differs by the exchange's klines; as audit.settle says if not"
    " given.",
)
def audit(config: Config, since: int, until: int | None, *, settle: bool | None) -> None:
    """Compare stored minutes with the exchange's own klines.

    Prints, for every symbol, how many minutes were compared and were: equal; different because an
    aggregate straddles a bar's end (straddle; seam, if the neighbour cannot confirm it), because ids
    in an aggregate are no fills (count), because of fills that are in no aggregate (forced); or
    unexplained.  Then minutes that were the exchange's own already, that claimed nothing and differ
    (unproved), that were missing; longer bars that differ; and bars of all intervals settled.
    """
    if until is not None and since >= until:
        raise click.UsageError("expected --since before --until")
    wanted = config.audit.settle if settle is None else settle
    run_to_the_end(
        partial(leave_on_signal, partial(run_audit, config, since, until, settle=wanted))
    )


async def run_audit(
    config: Config,
    since: int,
    until: int | None,
    *,
    settle: bool,
    clock: ExchangeClock | None = None,
) -> StoredComparison:
    """Audit all symbols and print the table; return its last line.

    Args:
        config: The configuration.
        since: First open time, UTC ms.
        until: End, UTC ms; None for now.
        settle: Whether what differs is replaced.
        clock: Another clock than the default, for simulated exchanges that run fast.
    """
    if "1m" not in config.engine.intervals:
        given = list(config.engine.intervals)
        raise ConfigError("engine.intervals", given, "a list with 1m, which is what is compared")
    total = StoredComparison()
    async with open_joined(config, clock) as joined:
        newest = joined.rest.now_ms() - (YOUNGEST_MS if joined.beside_daemon else RIPE_MS)
        end = INTERVALS["1m"].open_of(newest if until is None else min(until, newest))
        if since >= end:
            raise joined.too_young(since, end)
        stored = StoredAudit(PastBars(joined.database), joined.registry, joined.rest, settle=settle)
        click.echo(_line("symbol", _COLUMNS))

        async def audit_one(symbol: Symbol) -> None:
            try:
                found = await stored.audit(symbol, since, end)
            except Refused as error:
                if error.is_for_us:
                    raise
                log_event(log, logging.WARNING, "audit_refused", symbol=symbol.name, cause=error)
                return
            click.echo(_line(symbol.name, _numbers(found)))
            _tell_unexplained(found.unexplained)
            _add(total, found)

        await in_turn(joined.registry.symbols, audit_one)
    click.echo(_line("all", _numbers(total)))
    return total


def _add(total: StoredComparison, found: StoredComparison) -> None:
    total.agreement += found.agreement
    for name in ("own", "unproved", "missing", "longer", "settled"):
        setattr(total, name, getattr(total, name) + getattr(found, name))


def _numbers(found: StoredComparison) -> Iterable[int]:
    values = {"compared": found.agreement.compared, **attrs.asdict(found.agreement)}
    return (values[name] if name in values else getattr(found, name) for name in _COLUMNS)


def _line(name: str, cells: Iterable[object]) -> str:
    return f"{name:<18}" + "".join(f"{cell!s:>12}" for cell in cells)


def _tell_unexplained(findings: Sequence[Finding]) -> None:
    for each in findings[:_MOST_LISTED]:
        volume, quote, trades, *_ = attrs.astuple(each.difference)
        sums = f"volume {volume:+}, quote volume {quote:+}, trades {trades:+}"
        click.echo(f"  {format_moment(each.open_time)}: ours minus theirs, scaled: {sums}")
    if len(findings) > _MOST_LISTED:
        click.echo(f"  and {len(findings) - _MOST_LISTED} more")
