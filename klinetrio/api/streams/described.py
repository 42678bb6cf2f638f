"""The exchange's streams, as far as OpenAPI can tell of WebSockets."""

from __future__ import annotations

from klinetrio.api.openapi.operation import Answer, Operation
from klinetrio.api.parameters import Text


TAG = "The exchange's streams"

_ABOUT = (
    "A WebSocket that speaks the exchange's protocol, on the exchange's paths: `/ws` takes commands,"
    " `/ws/<streams>` delivers some streams at once, `/stream?streams=...` wraps what it delivers in"
    ' `{"stream": ..., "data": ...}`; the same under `/market` and `/public`, and idle under'
    " `/private`.\n\n"
    "Streams are `<symbol>@kline_<interval>`, `<pair>_perpetual@continuousKline_<interval>`,"
    " `<symbol>@aggTrade`, `<symbol>@miniTicker` and `!miniTicker@arr`, symbols in lower case; commands are `SUBSCRIBE`, `UNSUBSCRIBE`,"
    " `LIST_SUBSCRIPTIONS`, `SET_PROPERTY` and `GET_PROPERTY`."
)

_OPEN = (Answer("The WebSocket is open.", status=101),)

PLAIN = Operation(
    summary="A WebSocket for commands",
    tag=TAG,
    description=_ABOUT,
    answers=_OPEN,
    problems=("bad_request",),
)

NAMED = Operation(
    summary="A WebSocket that delivers some streams",
    tag=TAG,
    description=_ABOUT,
    parameters=(
        Text(name="streams", description="Names with slashes between them.", required=True),
    ),
    answers=_OPEN,
    problems=("bad_request", "not_found"),
)

COMBINED = Operation(
    summary="A WebSocket that says which stream a message is of",
    tag=TAG,
    description=_ABOUT,
    parameters=(Text(name="streams", description="Names with slashes between them."),),
    answers=_OPEN,
    problems=("bad_request",),
)
