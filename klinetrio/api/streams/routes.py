"""The paths of the exchange's streams."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quart import websocket

from klinetrio.api.openapi.operation import describe
from klinetrio.api.session import QuartSocket, run_session
from klinetrio.api.streams.control import Control
from klinetrio.api.streams.described import COMBINED, NAMED, PLAIN
from klinetrio.api.streams.names import StreamTopics
from klinetrio.api.streams.target import PREFIXES, target_of


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio
    from quart import Quart

    from klinetrio.api.hub import PushHub
    from klinetrio.api.names import OpenMarket


def add_stream_routes(app: Quart, opened: OpenMarket, hub: PushHub, shutdown: trio.Event) -> None:
    """Add all stream routes to ``app``."""
    topics = StreamTopics(opened)

    def a_view() -> Callable[..., Awaitable[None]]:
        async def stream(**_: str) -> None:
            target = target_of(websocket.path, websocket.query_string)
            make = partial(Control, hub=hub, topics=topics, target=target)
            await run_session(QuartSocket(websocket), hub, make, shutdown)

        return stream

    for prefix in PREFIXES:
        for path, operation in (
            ("/ws", PLAIN),
            ("/ws/", PLAIN),
            ("/ws/<path:streams>", NAMED),
            ("/stream", COMBINED),
        ):
            rule = f"{prefix}{path}"
            app.add_websocket(rule, f"stream {rule}", describe(operation)(a_view()))
