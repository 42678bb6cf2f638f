"""Klines from files give the longer bars that they wholly make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from klinetrio.archive.kline_run import KlineRun
from klinetrio.archive.longer import NO_ROWS, Bars
from klinetrio.domain.interval import DAY, INTERVALS, MINUTE, parse_intervals
from klinetrio.domain.kline import FIELD_COUNT, FLAGS, NO_ID, OPEN_TIME, TRADE_COUNT, VOLUME, Flag
from klinetrio.engine.fold import fold_klines
from klinetrio.errors import ScaleError
from tests.archive.texts import DAY_ONE


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.archive.rows import Int64Array

CHOSEN = parse_intervals(["1m", "5m", "1h", "1d", "1w", "1M"])
PAST = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED


def klines(opens: Iterable[int]) -> Int64Array:
    """Return klines with these open times."""
    times = np.array(list(opens), np.int64)
    rows = np.ones((len(times), FIELD_COUNT), np.int64)
    rows[:, OPEN_TIME], rows[:, VOLUME] = times, times % 1009
    rows[:, 10:12], rows[:, FLAGS] = NO_ID, PAST
    return rows


def run_over(pieces: Sequence[Int64Array], part: str = "1m") -> tuple[KlineRun, Bars]:
    """Return what several files make."""
    run = KlineRun.starting(INTERVALS[part], CHOSEN)
    done: list[Bars] = []
    for piece in pieces:
        for after, bars in run.extend(piece):
            run = after
            done.append(bars)
    joined = {
        each.name: np.concatenate([bars.get(each.name, NO_ROWS) for bars in done])
        for each in CHOSEN
    }
    return run, joined


@pytest.mark.parametrize("cuts", [[], [1], [10, 700, 701], [1440]])
def test_longer_bars_are_folded_however_files_are_cut(cuts: list[int]) -> None:
    """Two days of minutes: the klines themselves, fives, hours, days, but no week (I1)."""
    minutes = klines(range(DAY_ONE, DAY_ONE + 2 * DAY, MINUTE))
    run, bars = run_over(np.split(minutes, cuts))

    assert np.array_equal(minutes, bars["1m"])
    for name in ("5m", "1h", "1d"):
        assert np.array_equal(fold_klines(minutes, INTERVALS[name]), bars[name])
        assert (bars[name][:, FLAGS] == PAST).all()
        assert (bars[name][:, 10:12] == NO_ID).all()
    assert 0 == len(bars["1w"]) == len(bars["1M"])
    assert (DAY_ONE, DAY_ONE + 2 * DAY) == run.covered


def test_a_missing_kline_leaves_out_what_it_belongs_in() -> None:
    """And nothing else, on either side (I1)."""
    gap = DAY_ONE + 90 * MINUTE
    opens = [each for each in range(DAY_ONE, DAY_ONE + DAY, MINUTE) if each != gap]
    _, bars = run_over([klines(opens)])

    assert opens == bars["1m"][:, OPEN_TIME].tolist()
    assert gap not in bars["5m"][:, OPEN_TIME]
    assert 287 == len(bars["5m"])
    assert 23 == len(bars["1h"])
    assert 0 == len(bars["1d"])


def test_klines_that_were_seen_are_dropped() -> None:
    """Daily files beside the monthly one."""
    minutes = klines(range(DAY_ONE, DAY_ONE + DAY, MINUTE))
    _, bars = run_over([minutes, minutes[100:200]])
    assert np.array_equal(minutes, bars["1m"])


def test_only_intervals_that_can_be_made_of_them_are() -> None:
    """Days make weeks and months, nothing shorter."""
    days = klines(range(DAY_ONE - 40 * DAY, DAY_ONE + 40 * DAY, DAY))
    _, bars = run_over([days], "1d")
    made = {name: len(rows) for name, rows in bars.items() if len(rows)}
    assert {"1d": 80, "1w": 11, "1M": 2} == made
    assert 7 == bars["1w"][0, TRADE_COUNT]


def test_scales_grow_in_the_middle() -> None:
    """What waits to be folded is multiplied, or refused where it does not fit."""
    minutes = klines(range(DAY_ONE, DAY_ONE + 30 * MINUTE, MINUTE))
    run, _ = run_over([minutes])
    hours = run.rescaled(10, 100).longer.pending[2]
    assert np.array_equal(minutes[:, VOLUME] * 100, hours[:, VOLUME])
    assert (hours[:, 6] == 1000).all()
    assert (hours[:, TRADE_COUNT] == 1).all()
    with pytest.raises(ScaleError, match="expected bars of 64 bits"):
        run.rescaled(1, 10**18)
