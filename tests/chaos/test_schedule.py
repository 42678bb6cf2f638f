"""What goes wrong depends on the seed and on nothing else."""

from __future__ import annotations

import pytest

from tests.chaos.schedule import KINDS, make_kills, make_lives, make_schedule, make_stream_plan


def schedule_of(seed: int, seconds: float = 240.0) -> list[object]:
    """Return a schedule as a run would have it."""
    return [*make_schedule(seed, seconds=seconds, symbols=50, kills=6, stops=2)]


def test_the_seed_decides_everything() -> None:
    """The same seed gives the same run, another one another."""
    assert schedule_of(1) == schedule_of(1) != schedule_of(2)
    assert make_stream_plan(1) == make_stream_plan(1) != make_stream_plan(2)
    lives = [make_lives(seed, count=9, longest_pause_s=3.0) for seed in (1, 1, 2)]
    assert lives[0] == lives[1] != lives[2]
    kills = [make_kills(seed, kills=9) for seed in (1, 1, 2)]
    assert kills[0] == kills[1] != kills[2]


@pytest.mark.parametrize("seconds", [1.0, 30.0, 600.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_kind_of_fault_happens_within_the_run(seed: int, seconds: float) -> None:
    """However short it is, and with as many ends of the daemon as were asked for."""
    faults = make_schedule(seed, seconds=seconds, symbols=50, kills=6, stops=2)
    assert sorted(faults) == faults
    assert {*KINDS, "kill", "stop"} == {each.kind for each in faults}
    assert [6, 2] == [sum(each.kind == kind for each in faults) for kind in ("kill", "stop")]
    for fault in faults:
        assert 0 < fault.at_s <= fault.at_s + fault.for_s <= seconds
        assert all(0 <= rank < 50 for rank in fault.symbols)
        assert len(set(fault.symbols)) == len(fault.symbols)


def test_one_symbol_is_enough() -> None:
    """No fault asks for more symbols than there are."""
    for fault in make_schedule(1, seconds=60.0, symbols=1, kills=0, stops=0):
        assert fault.symbols in {(), (0,)}


def test_the_last_daemon_succeeds_its_connections() -> None:
    """Else it would lose one now and then when everything should be calm."""
    lives = make_lives(1, count=20, longest_pause_s=3.0)
    assert lives[-1].renews
    assert {(skew, renews) for skew in (-2.0, 2.0) for renews in (True, False)} == {
        (each.skew_s, each.renews) for each in lives
    }


def test_kills_come_early_and_late() -> None:
    """As many as were asked for: some while the daemon starts, most while it serves."""
    kills = make_kills(5, kills=100)
    assert 100 == len(kills)
    late = [each for each in kills if each.number]
    assert 60 < len(late) < 90
    assert {"kill"} == {each.kind for each in kills}
    assert max(each.for_s for each in late) > 5
