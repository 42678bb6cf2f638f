"""Work that consists of requests, a few of them under way at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

# Requests under way at once.  At 0.3 s each this is as fast as the weight allows.
WORKERS = 4

W = TypeVar("W")


async def in_turn(items: Iterable[W], work: Callable[[W], Awaitable[None]]) -> None:
    """Do some work for each item, a few at a time, begun in their order."""
    waiting = iter(items)

    async def worker() -> None:
        # One iterator for all: an item goes to whoever is free first.
        for item in waiting:
            await work(item)

    async with trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(worker)
