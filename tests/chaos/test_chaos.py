"""The chaos run and the kills, in short; the long ones are sessions of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS
from tests.chaos.kills import LONGEST_PAUSE_S, make_load
from tests.chaos.run import Load, run_chaos
from tests.chaos.schedule import KINDS, make_kills, make_lives, make_schedule, make_stream_plan
from tests.chaos.verdict import table


SEED = 7

RECORDING = Path(__file__).parents[3] / "shared/data/derived_um_btcusdt_20240808_agg100ms.jsonl.gz"

# Nothing is judged by time; a run that does not end has failed.
BOUND_S = 1_200


async def test_every_bar_is_right_after_everything_went_wrong(tmp_path: Path) -> None:
    """Every kind of fault and a kill within half a minute: all that is stored and told is true."""
    load = Load(seed=SEED, seconds=20, rate=600, connection_life_s=15)
    schedule = make_schedule(SEED, seconds=load.seconds, symbols=load.symbols, kills=2, stops=1)
    with trio.fail_after(BOUND_S):
        verdict = await run_chaos(
            load,
            schedule=schedule,
            lives=make_lives(SEED, count=4, longest_pause_s=1.0),
            streams=make_stream_plan(SEED),
            folder=tmp_path,
        )

    print(table(verdict))
    assert verdict.failures == []
    assert {*KINDS, "kill", "stop"} <= set(verdict.faults)
    assert all(verdict.faults[f"frames {kind}"] for kind in ("drop", "duplicate", "reorder"))
    assert all(verdict.faults[f"frames {kind}"] for kind in ("delay", "held_back", "lost"))
    assert all(verdict.tallies[interval].checked for interval in DEFAULT_INTERVALS)
    # The 200,000 and more are the long run's.
    assert verdict.trades > 10_000
    assert verdict.pushed_right > 100
    assert verdict.served_right > 100


@pytest.mark.parametrize(
    "recording",
    [
        pytest.param(None, id="seeded"),
        pytest.param(
            RECORDING,
            id="recorded",
            marks=pytest.mark.skipif(
                not RECORDING.is_file(), reason="no recorded market data beside the tree"
            ),
        ),
    ],
)
async def test_no_bar_is_wrong_after_kills(recording: Path | None, tmp_path: Path) -> None:
    """At random instants, each followed by a restart on the same database."""
    kills = 4
    with trio.fail_after(BOUND_S):
        verdict = await run_chaos(
            make_load(SEED, kills=kills, rate=600, recording=recording),
            schedule=make_kills(SEED, kills=kills),
            lives=make_lives(SEED, count=kills + 1, longest_pause_s=LONGEST_PAUSE_S),
            streams=None,
            folder=tmp_path,
        )

    print(table(verdict))
    assert verdict.failures == []
    assert kills == verdict.faults["kill"]
    assert all(verdict.tallies[interval].checked for interval in DEFAULT_INTERVALS)
