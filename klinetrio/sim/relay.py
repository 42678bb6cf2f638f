"""Bytes both ways between two streams."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio


if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 64 * 1024


async def relay(
    left: trio.abc.Stream,
    right: trio.abc.Stream,
    *,
    allow: Callable[[int], int] = lambda size: size,
) -> None:
    """Copy both ways until both directions have ended.

    An end of one direction is passed on as such (half-close), so a peer that only listens on
    keeps getting what is still sent to it.  Memory: one chunk per direction.

    Args:
        left: One side; remains the caller's.
        right: The other side; remains the caller's.
        allow: Told how many bytes are about to be passed on, returns how many may be; fewer ends
            the relay after those.

    Raises:
        trio.BrokenResourceError: A side failed.
    """
    async with trio.open_nursery() as nursery:
        copy = partial(_copy, allow=allow, scope=nursery.cancel_scope)
        nursery.start_soon(copy, left, right)
        nursery.start_soon(copy, right, left)


async def _copy(
    source: trio.abc.Stream,
    sink: trio.abc.Stream,
    *,
    allow: Callable[[int], int],
    scope: trio.CancelScope,
) -> None:
    while chunk := await source.receive_some(CHUNK):
        allowed = allow(len(chunk))
        if allowed:
            await sink.send_all(chunk[:allowed])
        if allowed < len(chunk):
            scope.cancel()
            return
    if isinstance(sink, trio.abc.HalfCloseableStream):
        await sink.send_eof()
    else:
        # TLS cannot end one direction alone.
        scope.cancel()
