"""Between Hypercorn's protocol machines and the app; stands where Hypercorn has its TaskGroup."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import trio

from klinetrio.httpd.faults import ReplyBrokenOff
from klinetrio.httpd.frames import FRAME_EXTENSION


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.config import Config
    from hypercorn.typing import ASGIFramework, ASGIReceiveEvent, ASGISendEvent

    from klinetrio.httpd.faults import FaultLog
    from klinetrio.httpd.frames import FramePort

    Send = Callable[[ASGISendEvent | None], Awaitable[None]]


class Tasks:
    """The tasks of one connection."""

    def __init__(
        self, apps: trio.Nursery, helpers: trio.Nursery, faults: FaultLog, frames: FramePort
    ) -> None:
        self._apps = apps
        self._helpers = helpers
        self._faults = faults
        self._frames = frames

    async def spawn_app(
        self, app: ASGIFramework, config: Config, scope: Any, send: Send
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the app on one request; return what feeds it with the client's messages."""
        if scope["type"] == "websocket":
            scope["extensions"][FRAME_EXTENSION] = self._frames
        request = Request(app, scope, send, self._faults, config.max_app_queue_size)
        self._apps.start_soon(request.run)
        return request.put

    def spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Start a helper."""
        self._helpers.start_soon(function, *args)


class Request:
    """One request or WebSocket session, between Hypercorn and the app."""

    def __init__(
        self, app: ASGIFramework, scope: Any, send: Send, faults: FaultLog, queue_size: int
    ) -> None:
        self._app = app
        self._scope = scope
        self._send = send
        self._faults = faults
        self._sending = trio.Lock()
        self._end: ASGIReceiveEvent
        self._inlet, self._outlet = trio.open_memory_channel[Any](queue_size)

    async def put(self, event: ASGIReceiveEvent) -> None:
        """Hand a message to the app; the end never waits behind messages (fault F)."""
        if event["type"] in {"http.disconnect", "websocket.disconnect"}:
            self._end = event
            self._inlet.close()
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._inlet.send(event)

    async def run(self) -> None:
        """Run the app, then let Hypercorn know that it is done."""
        with self._inlet, self._outlet:
            try:
                await self._app(self._scope, self._receive, self._send_whole)
            except* ReplyBrokenOff as group:
                self._faults.report("reply broken off", group)
            except* Exception as group:  # noqa: BLE001  (an app's bug must not end the server)
                self._faults.report("app failed", group, is_bug=True)
        await self._send(None)

    async def _receive(self) -> ASGIReceiveEvent:
        try:
            return cast("ASGIReceiveEvent", await self._outlet.receive())
        except trio.EndOfChannel:
            async with self._sending:  # fault A
                return self._end

    async def _send_whole(self, message: ASGISendEvent) -> None:
        async with self._sending:
            await self._send(message)
