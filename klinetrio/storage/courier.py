"""Work that blocks, in a thread, one piece at a time, whose outcome is never lost.

A thread cannot be cancelled.  Waiting for it without an end would let a write that hangs hold the
daemon's end; abandoning it, as Trio's own threads can be, loses whether it was done after all, and
lets the next piece pile up behind it.  So the work belongs to nobody who waits: whoever is
cancelled leaves, the thread goes on, and what it did is taken note of whenever it ends.

Invariants (tested in tests/storage/test_courier.py):
  I1  At most one piece of work is under way.
  I2  ``done`` or ``failed`` is called exactly once for each piece that was begun, in Trio's thread, also when
      nobody waits for it any more; unless Trio itself has ended first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import trio
from outcome import Error, Value


if TYPE_CHECKING:
    from collections.abc import Callable

    from outcome import Outcome

T = TypeVar("T")


class Courier:
    """Does one piece of work at a time.

    Attributes:
        since: Trio time at which the work under way was begun, None if there is none.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self._free = trio.Event()
        self._free.set()

    @property
    def busy_s(self) -> float:
        """For how long the work under way has been, in seconds; 0 if there is none."""
        return 0.0 if self.since is None else trio.current_time() - self.since

    async def until_free(self) -> None:
        """Wait until nothing is under way.

        Cancellation: whoever is cancelled already does not return.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._free.is_set():
            await self._free.wait()

    async def do(
        self,
        work: Callable[[], T],
        *,
        done: Callable[[T], None],
        failed: Callable[[BaseException], None],
    ) -> T:
        """Have some work done, and return what it returned.

        It is begun without a checkpoint, so what the caller changed for it since ``until_free`` is
        either taken note of by ``done`` or ``failed``, or was never changed.

        Args:
            work: Runs in a thread.
            done: Takes note of what it returned; synchronous, and raises nothing.
            failed: Takes note of what it raised, likewise.

        Raises:
            Exception: Whatever the work raised.
            RuntimeError: Something is under way.

        Cancellation: the work goes on by itself.
        """
        if not self._free.is_set():
            raise RuntimeError("expected nothing to be under way: wait until_free")
        self._free = ended = trio.Event()
        self.since = trio.current_time()
        results: list[Outcome[T]] = []

        def end(result: Outcome[T]) -> None:
            results.append(result)
            self.since = None
            if isinstance(result, Value):
                done(result.value)
            elif isinstance(result, Error):
                failed(result.error)
            ended.set()

        token = trio.lowlevel.current_trio_token()

        def deliver(result: Outcome[T]) -> None:
            # There is nobody left to be told once Trio has ended.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(end, result)

        trio.lowlevel.start_thread_soon(work, deliver, name="klinetrio storage")
        await ended.wait()
        return results[0].unwrap()
