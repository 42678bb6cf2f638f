"""Reading in a thread that ends when nobody waits for it any more.

A thread cannot be cancelled, but the statement that it waits for can.  A client that leaves, or whose
time is up, must not keep a reader's place, and the server busy, for as long as the statement may take.

The store says how its connection is stopped (``stoppable``), where it begins to read; whoever
cancels ``in_thread`` has that done.  What does not stop in time is left to the store's own bounds.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

import trio

from klinetrio.errors import StoreError


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

# A server that answers at all has stopped a statement long before.
STOP_GRACE_S = 2.0


class Stop:
    """The way to stop what one thread reads."""

    def __init__(self) -> None:
        # Held while a statement is stopped: by then its connection must not serve another one.
        self._lock = threading.Lock()
        self._how: Callable[[], object] | None = None
        self._is_asked = False

    def set_how(self, how: Callable[[], object] | None) -> None:
        """Say how the statement that comes is stopped, None when there is none.

        Raises:
            StoreError: Nobody waits for it any more.
        """
        with self._lock:
            self._how = how
            if how is not None and self._is_asked:
                self._how = None
                raise StoreError("nobody waits for this any more")

    def ask(self) -> None:
        """Stop the statement under way, and begin no other."""
        with self._lock:
            self._is_asked = True
            if self._how is not None:
                self._how()


_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def stoppable(how: Callable[[], object]) -> Iterator[None]:
    """Let the statements of the block be stopped, if the thread belongs to ``in_thread``.

    Args:
        how: Stops one; called from another thread, raises nothing.
    """
    stop = _STOP.get()
    if stop is None:
        yield
        return
    stop.set_how(how)
    try:
        yield
    finally:
        stop.set_how(None)


async def in_thread(work: Callable[[], T], limiter: trio.CapacityLimiter | None = None) -> T:
    """Return what some reading returns.

    Args:
        work: Reads from a store; runs in a thread.
        limiter: Of such threads.

    Cancellation: the statement under way is stopped; the thread ends by itself.
    """
    stop = Stop()
    token = _STOP.set(stop)
    try:
        return await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
    except trio.Cancelled:
        with trio.move_on_after(STOP_GRACE_S, shield=True):
            await trio.to_thread.run_sync(stop.ask, abandon_on_cancel=True)
        raise
    finally:
        _STOP.reset(token)
