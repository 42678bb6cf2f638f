"""A market whose aggregates straddle bar ends: the audit explains the differences and settles them."""

from __future__ import annotations

from contextlib import closing
from sqlite3 import connect
from typing import TYPE_CHECKING, Any

import trio

from klinetrio.config import load_config
from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS, MINUTE
from klinetrio.domain.kline import FIRST_AGG_ID, OPEN, Flag
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.recovery import auditor
from klinetrio.sim import FillMarket
from klinetrio.sim.clock import SimClock
from klinetrio.sim.fills import Shares
from klinetrio.tools.audit import run_audit
from tests.e2e.world import LIMIT_S, VALUE_FIELDS, World, open_world


if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RATE = 30

# Some minutes before the end of an hour.
START = 1_786_172_400_000 + 49 * MINUTE
SYMBOLS = 5


def market() -> FillMarket:
    """A market in which every third minute's end is straddled."""
    return FillMarket(
        seed=11,
        symbols=SYMBOLS,
        trades_per_second=4,
        shares=Shares(straddles=0.35, forced=0.0005, holes=0.003),
        history_minutes=3_000,
        clock=SimClock(START, rate=RATE),
    )


def stored(world: World) -> dict[tuple[str, str, int], tuple[list[int], int, int]]:
    """Return every stored bar: its nine values, flags and revision."""
    names = ", ".join(VALUE_FIELDS)
    query = (
        f"SELECT name, interval, open_time, {names}, flags, revision"  # noqa: S608
        " FROM klines JOIN symbols USING (symbol_id)"
    )
    with closing(connect(world.database)) as connection:
        rows = connection.execute(query).fetchall()
    return {row[:3]: (list(row[3:12]), row[12], row[13]) for row in rows}


def truth(made: FillMarket, key: tuple[str, str, int]) -> list[int]:
    """Return what the exchange's own kline says."""
    symbol, interval, open_time = key
    (row,) = made.true_klines(symbol, INTERVALS[interval], open_time, open_time + 1)
    return [int(value) for value in row[OPEN:FIRST_AGG_ID]]


def differing(
    made: FillMarket, bars: dict[tuple[str, str, int], tuple[list[int], int, int]], until: int
) -> list[tuple[str, str, int]]:
    """Return the bars that ended before a time and are not the exchange's."""
    return [
        key
        for key, (values, _, _) in bars.items()
        if INTERVALS[key[1]].next_open(key[2]) <= until and values != truth(made, key)
    ]


async def until(world: World, time_ms: int) -> None:
    """Wait until the exchange's clock shows a time."""
    await trio.sleep_until(world.exchange.market.clock.trio_time_of(time_ms))


async def test_differences_are_explained_and_settled_in_every_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the end the database says what the exchange says, and who followed has been told."""
    monkeypatch.setattr(auditor, "ROUND_S", 4.0)
    made = market()
    with trio.fail_after(LIMIT_S):
        async with open_world(made, tmp_path) as world:
            # The clock runs fast, the audit's purse does not.
            fast: dict[str, Any] = {"audit.weight_per_minute": 2_400}
            async with world.daemon(**fast) as daemon:
                await daemon.until_ready()
                await until(world, START + 17 * MINUTE)
                rounds = (await daemon.get("/api/v1/status"))["audit"]["rounds"]
                settled_until = made.clock.now_ms()
                # A round that begins after this moment, and the boundary after it.
                while True:
                    status = await daemon.get("/api/v1/status")
                    idle = not status["audit"]["settling"]
                    if status["audit"]["rounds"] >= rounds + 2 and idle:
                        break
                    await trio.sleep(0.1)
                audit = None
                # It goes on while it is asked.
                while audit != status["audit"]:
                    audit = status["audit"]
                    listed = await daemon.get("/api/v1/audit")
                    metrics = (await daemon.client.get("/metrics")).text
                    status = await daemon.get("/api/v1/status")
    assert audit["compared"] > 12 * SYMBOLS
    assert audit["straddle"] > 10
    assert audit["unexplained"] <= audit["compared"] // 50
    assert audit["unproved"] <= SYMBOLS
    verdicts = ("equal", "straddle", "seam", "count", "forced", "unexplained")
    assert audit["compared"] == sum(audit[name] for name in verdicts)
    for name in ("compared", *verdicts):
        assert audit[name] == sum(each[name] for each in listed)
    assert f'klinetrio_audited_bars_total{{verdict="equal"}} {audit["equal"]:.1f}' in metrics
    bars = stored(world)
    assert differing(made, bars, settled_until) == []
    settled = {key: each for key, each in bars.items() if each[1] & Flag.SETTLED}
    assert {key[1] for key in settled} >= {"1m", "5m", "15m", "30m", "1h"}
    assert all(flags & Flag.COMPLETE for _, flags, _ in settled.values())
    # Of some that had been closed otherwise before, whoever followed has been told.
    assert {key[1] for key, (_, _, revision) in settled.items() if revision} >= {"1m", "5m", "15m"}


async def test_the_audit_on_demand_prints_a_table_and_settles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a daemon without an audit has left differing."""
    made = market()
    with trio.fail_after(LIMIT_S):
        async with open_world(made, tmp_path) as world:
            async with world.daemon(**{"audit.weight_per_minute": 0}) as daemon:
                await daemon.until_ready()
                await until(world, START + 16 * MINUTE)
                assert not (await daemon.get("/api/v1/status"))["audit"]["is_on"]
            before = stored(world)
            # The last bars of some symbols may have been closed just before the end.
            ends: dict[str, int] = {}
            for symbol, interval, open_time in before:
                if interval == "1m":
                    ends[symbol] = max(ends.get(symbol, 0), open_time + MINUTE)
            newest = min(ends.values())
            wrong = differing(made, before, newest)
            assert len(wrong) > 20
            oldest = min(open_time for _, interval, open_time in wrong if interval == "1m")
            config = load_config(overrides=world.settings)
            clock = ExchangeClock(rate=RATE)
            told = await run_audit(config, 0, newest, settle=False, clock=clock)
            assert stored(world) == before
            assert told.agreement.compared > 12 * SYMBOLS
            assert told.agreement.straddle > 10
            assert told.agreement.unexplained <= told.agreement.compared // 50
            assert (told.missing, told.settled) == (0, 0)
            assert told.own > 90 * SYMBOLS
            settling = await run_audit(config, oldest, newest, settle=True, clock=clock)
            assert settling.settled >= len(wrong)
            assert settling.longer >= len([key for key in wrong if key[1] != "1m"])
            after = stored(world)
            assert differing(made, after, newest) == []
            again = await run_audit(config, oldest, newest, settle=True, clock=clock)
            assert again.settled == 0
            assert again.agreement.equal == again.agreement.compared
    assert {key[1] for key in wrong} >= set(DEFAULT_INTERVALS[:5])
    for key in wrong:
        assert after[key][1] & Flag.SETTLED
        assert after[key][2] == before[key][2] + 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["symbol", "compared", "equal"]
    assert [line.split()[0] for line in lines].count("all") == 3
    assert str(told.agreement.compared) == next(
        line.split()[1] for line in lines if line.startswith("all")
    )
