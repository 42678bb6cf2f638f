"""The chaos run: everything goes wrong that can, and every bar is right in the end.

A simulated exchange and its proxy run here, their faults drawn from a seed that is printed first; the
daemon runs in a process of its own, which is killed again and again.  When the faults are over the
daemon gets time to repair, is stopped, and all that it stored, pushed and served is compared with
what happened.  Exit status 1 if anything is wrong.

Run by ``nox -s chaos -- --seed N --minutes M``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS, WEEK
from klinetrio.domain.kline import OPEN_TIME
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from tests.chaos.injector import Injector
from tests.chaos.judge import Span, Tally, judge_series, judge_told, read_database
from tests.chaos.keeper import Keeper
from tests.chaos.repeated import RepeatedRecording
from tests.chaos.schedule import make_lives, make_schedule, make_stream_plan
from tests.chaos.settle import settle, until_ready
from tests.chaos.verdict import Verdict, table
from tests.chaos.watcher import Watcher
from tests.e2e.world import World, open_world


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from klinetrio.sim.faults import FaultPlan
    from tests.chaos.repeated import PlayedMarket
    from tests.chaos.schedule import Fault, Life

# A Monday, 2026-08-10 00:00 UTC: bars of every interval end then.
WEEK_END = INTERVALS["1w"].open_of(1_786_200_000_000) + WEEK

# The week ends after so much of a run.
_WEEK_END_AFTER = 0.45

# About how long the first daemon takes to be ready; things go wrong from then on.
_READY_S = 12.0

# Ten days, so that whole days and a whole week lie behind most symbols.
_HISTORY_MINUTES = 14_400

# Between two swaps, on this machine's clock: what is pushed would cost more than all else otherwise.
_SWAP_S = 0.5

# The share of a connection's life after which it is succeeded: 22 of 24 hours, and room for stalls.
_RENEW_AFTER = 0.7


@attrs.frozen(kw_only=True)
class Load:
    """What a run is to be.

    Attributes:
        seed: Decides everything.
        seconds: How long things go wrong, on this machine's clock.
        symbols: How many trade.
        rate: Trades per second of this machine's clock.
        clock_rate: How many exchange seconds pass per second.
        connection_life_s: After which the exchange ends a connection; the 24 hours scaled down.
        recording: What is played instead of seeded trades; the rate is its own then.
    """

    seed: int
    seconds: float
    symbols: int = 50
    rate: float = 1_000.0
    clock_rate: float = 20.0
    connection_life_s: float = 60.0
    recording: Path | None = None

    def make_market(self) -> PlayedMarket:
        """Return the market, on a clock that starts so that a week ends during the run."""
        before_s = _READY_S + self.seconds * _WEEK_END_AFTER
        before_ms = int(before_s * 1000 * self.clock_rate)
        clock = SimClock(WEEK_END - before_ms, rate=self.clock_rate)
        if self.recording:
            return RepeatedRecording(self.recording, symbols=self.symbols, clock=clock)
        return SeededMarket(
            seed=self.seed,
            symbols=self.symbols,
            trades_per_second=self.rate / self.clock_rate,
            history_minutes=_HISTORY_MINUTES,
            clock=clock,
        )


@attrs.define
class Run:
    """A run under way."""

    market: PlayedMarket
    world: World
    keeper: Keeper
    watcher: Watcher
    faults: Counter[str] = attrs.field(factory=Counter)
    troubles: list[str] = attrs.field(factory=list)
    repair_s: float = 0.0


async def run_chaos(
    load: Load,
    *,
    schedule: Sequence[Fault],
    lives: Sequence[Life],
    streams: FaultPlan | None,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Run a daemon through a schedule of faults and judge it.

    Args:
        load: The market and the length of the run.
        schedule: What goes wrong.
        lives: How the daemon's processes are.
        streams: What happens to frames by chance.
        folder: For the database and the daemons' log.
        say: Told what happens.
    """
    market = load.make_market()
    life_s = load.connection_life_s
    async with (
        open_world(market, folder, faults=streams, max_connection_s=life_s) as world,
        trio.open_nursery() as nursery,
    ):
        keeper = _make_keeper(world, load, lives)
        # Beside these it lists what a daemon has to leave out.
        symbols = market.trading_symbols[: load.symbols]
        run = Run(market, world, keeper, Watcher(keeper, symbols, load.seed))
        injector = Injector(world, keeper, symbols, run.faults, say)
        nursery.start_soon(run.watcher.run)
        async with trio.open_nursery() as living:
            living.start_soon(keeper.run)
            await until_ready(keeper)
            since = market.clock.now_ms()
            await injector.run(schedule)
            injector.calm()
            say("no more faults: the daemon repairs")
            calm = trio.current_time()
            until, run.troubles = await settle(market, keeper, symbols=symbols, since=since)
            run.repair_s = trio.current_time() - calm
            await keeper.finish()
        nursery.cancel_scope.cancel()
        market.catch_up()
        now = market.clock.now_ms()
        return _judge(run, {name: Span(since, end, now) for name, end in until.items()})


def _make_keeper(world: World, load: Load, lives: Sequence[Life]) -> Keeper:
    settings = {
        **world.settings,
        "engine.swap_interval_ms": int(_SWAP_S * 1000 * load.clock_rate),
        "storage.flush_interval_s": 0.5,
        "stats.interval_s": 10,
    }
    return Keeper(
        settings=settings,
        clock=world.exchange.market.clock,
        lives=lives,
        renew_after_s=load.connection_life_s * _RENEW_AFTER,
        log_path=world.database.with_name("daemon.log"),
    )


def _judge(run: Run, spans: Mapping[str, Span]) -> Verdict:
    market, records = run.market, run.watcher.records
    pushed, wrong = judge_told(records.pushed, INTERVALS, market)
    served, false = judge_told(records.served, INTERVALS, market)
    statistics = run.world.exchange.statistics()
    run.faults.update({f"frames {kind}": each for kind, each in statistics.faults.items()})
    books = [market.ledger.book(symbol) for symbol in spans]
    return Verdict(
        trades=sum(each.tape[-1].agg_id - each.id_before for each in books if len(each.tape)),
        faults=run.faults,
        tallies=judge_database(run.world.database, market, spans),
        records=records,
        exchange=statistics,
        troubles=[*run.keeper.troubles, *run.troubles, *wrong, *false],
        pushed_right=pushed,
        served_right=served,
        repair_s=run.repair_s,
    )


def judge_database(path: Path, market: PlayedMarket, spans: Mapping[str, Span]) -> dict[str, Tally]:
    """Return what is to be said of all stored bars, by interval."""
    stored = read_database(path)
    tallies = {name: Tally() for name in DEFAULT_INTERVALS}
    for symbol, span in spans.items():
        for name, tally in tallies.items():
            interval, rows = INTERVALS[name], stored.get((symbol, name), [])
            oldest = min([row[OPEN_TIME] for row in rows] + [interval.open_of(span.since)])
            bars = market.true_klines(symbol, interval, oldest, span.now)
            truth = {row[OPEN_TIME]: row for row in bars}
            tally.add(judge_series(symbol, interval, rows=rows, truth=truth, span=span))
    return tallies


def run_and_tell(
    load: Load, *, schedule: Sequence[Fault], lives: Sequence[Life], streams: FaultPlan | None
) -> int:
    """Run, tell on standard output what happens, and return the exit status."""
    print(f"seed {load.seed}", flush=True)
    print(f"{load}\n{streams}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="klinetrio-chaos-"))
    whole = partial(
        run_chaos,
        load,
        schedule=schedule,
        lives=lives,
        streams=streams,
        folder=folder,
        say=partial(print, flush=True),
    )
    verdict = trio.run(whole)
    print(table(verdict))
    if verdict.failures:
        print(f"database and log are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def main() -> int:
    """Run as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description="Everything goes wrong, and every bar is right.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=4.0, help="of this machine")
    parser.add_argument("--symbols", type=int, default=50)
    parser.add_argument("--rate", type=float, default=1_000.0, help="trades per second, together")
    parser.add_argument("--clock-rate", type=float, default=20.0, help="exchange seconds in one")
    parser.add_argument("--kills", type=int, default=6)
    options = parser.parse_args()
    seed, seconds, kills = options.seed, options.minutes * 60, options.kills
    load = Load(
        seed=seed,
        seconds=seconds,
        symbols=options.symbols,
        rate=options.rate,
        clock_rate=options.clock_rate,
    )
    stops = max(1, kills // 4)
    schedule = make_schedule(
        seed, seconds=seconds, symbols=options.symbols, kills=kills, stops=stops
    )
    lives = make_lives(seed, count=kills + stops + 1, longest_pause_s=3.0)
    return run_and_tell(load, schedule=schedule, lives=lives, streams=make_stream_plan(seed))


if __name__ == "__main__":
    sys.exit(main())
