"""Work in threads is done one piece at a time, and its outcome is taken note of once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.errors import StoreError
from klinetrio.storage.courier import Courier


if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_S = 300.0


class Notes:
    """What has been taken note of."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.failed: list[BaseException] = []

    async def have(self, courier: Courier, work: Callable[[], object]) -> object:
        """Have some work done as soon as that is possible."""
        await courier.until_free()
        return await courier.do(work, done=self.done.append, failed=self.failed.append)


async def test_an_outcome_is_returned_and_noted() -> None:
    """A value or an error, in Trio's thread."""
    notes, courier = Notes(), Courier()
    error = StoreError("gone")

    def fail() -> None:
        raise error

    with trio.fail_after(LIMIT_S):
        assert await notes.have(courier, lambda: 7) == 7
        with pytest.raises(StoreError, match="gone"):
            await notes.have(courier, fail)
    assert ([7], [error]) == (notes.done, notes.failed)
    assert courier.busy_s == 0


async def test_what_is_not_waited_for_any_more_is_noted_all_the_same() -> None:
    """And the next piece waits for it (I1, I2)."""
    notes, courier, gate = Notes(), Courier(), threading.Event()
    with trio.fail_after(LIMIT_S):
        with trio.move_on_after(0.01) as scope:
            await notes.have(courier, lambda: gate.wait(LIMIT_S))
        assert scope.cancelled_caught
        assert notes.done == []
        assert courier.busy_s > 0
        with pytest.raises(RuntimeError, match="until_free"):
            await courier.do(int, done=notes.done.append, failed=notes.failed.append)
        gate.set()
        assert await notes.have(courier, lambda: len(notes.done)) == 1
    assert [True, 1] == notes.done


async def test_pieces_never_overlap() -> None:
    """However many ask at once (I1)."""
    notes, courier = Notes(), Courier()
    inside = []
    together = []

    def work() -> None:
        inside.append(1)
        together.append(len(inside))
        inside.pop()

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(notes.have, courier, work)
    assert [1] * 20 == together
    assert [None] * 20 == notes.done


async def test_whoever_is_cancelled_begins_nothing() -> None:
    """Nothing is changed for work that is never done."""
    notes, courier = Notes(), Courier()
    with trio.CancelScope() as scope:
        scope.cancel()
        await notes.have(courier, lambda: 7)
    assert scope.cancelled_caught
    assert (notes.done, notes.failed) == ([], [])
    assert courier.busy_s == 0


def test_work_may_outlive_trio() -> None:
    """Its thread finds nobody to tell, and that is no error."""
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(LIMIT_S)

    async def main() -> None:
        with trio.move_on_after(0.01):
            await Notes().have(Courier(), work)

    trio.run(main)
    before = threading.excepthook
    threading.excepthook = lambda _: ended.set()
    gate.set()
    assert not ended.wait(0.2)
    threading.excepthook = before
