"""A part is restarted, paced; a bug is not restarted for ever."""

from __future__ import annotations

import logging
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.errors import FeedLost, GaveUp, KlinetrioError, NetworkError
from klinetrio.supervise import (
    BUG_WINDOW_S,
    BUGS_ALLOWED,
    FIRST_DELAY_S,
    HEALTHY_S,
    MAX_DELAY_S,
    Supervision,
    backoff,
    describe,
    supervise,
)


if TYPE_CHECKING:
    from trio.testing import MockClock


def seeded(seed: int) -> random.Random:
    """Return a source of jitter that can be had again."""
    return random.Random(seed)  # noqa: S311  (jitter, not secrets)


class NoJitter(random.Random):
    """Draws the largest number, so that delays are exactly the nominal ones."""

    def random(self) -> float:
        """Return the upper end."""
        return 1.0


class Part:
    """Runs for a while and then fails, as often as it is told.

    Args:
        script: For each attempt how long it runs and what it raises; ``None`` returns.
    """

    def __init__(self, *script: tuple[float, Exception | None]) -> None:
        self.script = list(script)
        self.started: list[float] = []

    async def __call__(self) -> None:
        """Run the next attempt."""
        self.started.append(trio.current_time())
        lasts, error = self.script.pop(0)
        await trio.sleep(lasts)
        if error is not None:
            raise error


async def run(part: Part, *again: type[Exception], state: Supervision | None = None) -> None:
    """Supervise a part without jitter."""
    state = state or Supervision("part")
    await supervise(part, state=state, again=again, rng=NoJitter())


async def test_a_return_ends_the_supervision(autojump_clock: MockClock) -> None:
    """Returning is never "again" (I1)."""
    part = Part((1.0, None))
    state = Supervision("part")
    await run(part, state=state)
    assert [0.0] == part.started
    assert state.restarts == 0


async def test_cancellation_ends_part_and_supervision(autojump_clock: MockClock) -> None:
    """Also while it waits between two attempts (I1)."""
    part = Part((10.0, None), (0.0, None))
    with trio.move_on_after(3):
        await run(part)
    assert trio.current_time() == 3

    part = Part((0.0, FeedLost("x")), (0.0, None))
    with trio.move_on_after(0.25):
        await run(part, FeedLost)
    assert trio.current_time() == 3.25
    assert len(part.started) == 1


async def test_delays_double_up_to_the_cap(autojump_clock: MockClock) -> None:
    """0.5 s, 1, 2, 4 ... 30, 30: exactly, without jitter."""
    part = Part(*[(0.0, NetworkError("down"))] * 9, (0.0, None))
    state = Supervision("part")
    await run(part, NetworkError, state=state)
    delays = [late - early for early, late in pairwise(part.started)]
    assert [0.5, 1, 2, 4, 8, 16, 30, 30, 30] == delays
    assert state.restarts == 9
    assert state.last_cause == "down"


async def test_only_a_healthy_period_resets_the_delay(autojump_clock: MockClock) -> None:
    """A server that accepts and hangs up is not hammered (I2)."""
    lost = FeedLost("closed")
    part = Part(
        (HEALTHY_S - 0.5, lost), (HEALTHY_S - 0.5, lost), (HEALTHY_S, lost), (0.0, lost), (0, None)
    )
    await run(part, NetworkError)
    expected = [0.0, 30.0, 60.5, 91.0, 92.0]
    assert expected == part.started


async def test_the_outside_world_may_fail_for_ever(autojump_clock: MockClock) -> None:
    """Expected errors are never counted as bugs."""
    part = Part(*[(0.0, NetworkError("down"))] * 200, (0.0, None))
    await run(part, NetworkError)
    assert len(part.started) == 201


async def test_a_bug_is_survived_a_few_times_then_escapes(autojump_clock: MockClock) -> None:
    """The bug after the allowed ones escapes as GaveUp, with its cause (I3)."""
    bug = KeyError("oops")
    part = Part(*[(0.0, bug)] * 100)
    state = Supervision("part")
    with pytest.raises(GaveUp, match="part failed 6 times: KeyError: 'oops'") as caught:
        await run(part, NetworkError, state=state)
    assert bug is caught.value.__cause__
    assert len(part.started) == BUGS_ALLOWED + 1
    assert state.restarts == BUGS_ALLOWED


async def test_rare_bugs_are_survived_for_ever(autojump_clock: MockClock) -> None:
    """Bugs count only within the window (I3)."""
    apart = BUG_WINDOW_S / BUGS_ALLOWED
    part = Part(*[(apart, KeyError("oops"))] * 50, (0.0, None))
    await run(part)
    assert len(part.started) == 51


async def test_bugs_within_exactly_the_window_are_too_many(autojump_clock: MockClock) -> None:
    """The bound is the window itself: six bugs, of which the first and last are 300 s apart."""
    # Every attempt is healthy, so every delay is the first one.
    apart = BUG_WINDOW_S / BUGS_ALLOWED - FIRST_DELAY_S
    part = Part(*[(apart, KeyError("oops"))] * 50)
    with pytest.raises(GaveUp):
        await run(part)
    assert len(part.started) == BUGS_ALLOWED + 1


async def test_expected_errors_between_bugs_do_not_excuse_them(autojump_clock: MockClock) -> None:
    """A part that fails by turns is given up, too."""
    part = Part(*[(0.0, KeyError("bug")), (0.0, NetworkError("down"))] * 20)
    with pytest.raises(GaveUp):
        await run(part, NetworkError)
    assert len(part.started) <= 2 * BUGS_ALLOWED + 1


async def test_a_group_of_expected_errors_is_expected(autojump_clock: MockClock) -> None:
    """Errors come in groups out of nurseries, nested ones too."""
    inner = ExceptionGroup("", [FeedLost("a"), FeedLost("b")])
    group = ExceptionGroup("", [NetworkError("c"), inner, NetworkError("c")])
    part = Part(*[(0.0, group)] * 20, (0.0, None))
    state = Supervision("part")
    await run(part, NetworkError, state=state)
    assert state.restarts == 20
    assert state.last_cause == "c; a; b"


async def test_one_bug_in_a_group_makes_it_a_bug(autojump_clock: MockClock) -> None:
    """An expected error beside it hides nothing."""
    group = ExceptionGroup("", [FeedLost("a"), ExceptionGroup("", [KeyError("b")])])
    part = Part(*[(0.0, group)] * 20)
    with pytest.raises(GaveUp, match="a; KeyError: 'b'"):
        await run(part, NetworkError)
    assert len(part.started) == BUGS_ALLOWED + 1


async def test_what_is_no_exception_passes_through(autojump_clock: MockClock) -> None:
    """A keyboard interrupt ends everything at once."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await supervise(interrupted, state=Supervision("part"), again=(Exception,))


async def test_a_restart_is_one_line(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the part, the cause and the delay; a bug comes with its traceback."""
    part = Part((0.0, NetworkError("down")), (0.0, KeyError("bug")), (0.0, None))
    with caplog.at_level(logging.WARNING, "klinetrio.supervise"):
        await run(part, NetworkError)
    expected = [
        "restarting part=part cause=down delay_s=0.500 restarts=1",
        "restarting_after_bug part=part cause=\"KeyError: 'bug'\" delay_s=1.000 restarts=2",
    ]
    assert expected == [record.getMessage() for record in caplog.records]
    assert caplog.records[0].exc_info is None
    assert caplog.records[1].exc_info is not None


@given(st.integers(0, 10**9), st.integers())
def test_backoff_is_capped_and_jittered_at_any_attempt(attempt: int, seed: int) -> None:
    """Between half the nominal delay and all of it; no attempt is too large a number."""
    nominal = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 100))
    assert nominal / 2 <= backoff(attempt, seeded(seed)) <= nominal


def test_lost_together_does_not_mean_back_together() -> None:
    """The jitter spreads 500 connections over half the delay."""
    rng = seeded(7)
    delays = [backoff(10, rng) for _ in range(500)]
    assert max(delays) - min(delays) > MAX_DELAY_S * 0.4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FeedLost("gone"), "gone"),
        (KlinetrioError(), "KlinetrioError"),
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError: ValueError"),
        (ExceptionGroup("x", [FeedLost("gone"), FeedLost("gone")]), "gone"),
    ],
)
def test_an_error_is_one_short_text(error: Exception, expected: str) -> None:
    """Ours speak for themselves, foreign ones are named; a group is what is in it."""
    assert expected == describe(error)
