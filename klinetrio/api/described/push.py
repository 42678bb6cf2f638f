"""The WebSocket of v1, as far as OpenAPI can tell of one."""

from __future__ import annotations

from klinetrio.api.openapi.operation import Answer, Operation


PUSH = Operation(
    summary="Push over a WebSocket",
    tag="Push",
    description=(
        "A WebSocket, opened by `GET` with the usual upgrade. What a client says is a JSON text"
        " message each; an `id` (text or integer) comes back in the reply.\n\n"
        '`{"op": "subscribe", "klines": [{"symbol": "BTC_USDT", "interval": "1m"}], "id": 1}` is'
        ' answered with `{"type": "subscribed", "klines": [...], "id": 1}`; `unsubscribe` alike,'
        ' and `{"op": "ping"}` with `{"type": "pong"}`.\n\n'
        "With `since` (an open time in ms, or one per series as in"
        ' `{"BTC_USDT@1m": 1795228980000}`) the closed bars from then on come first.\n\n'
        'Then comes `{"type": "kline.update", "data": {...}}` with a Kline whenever a bar has'
        " changed at a swap: a slow client gets the newest state of a bar instead of every step,"
        " but each bar once with `is_final`, and again with a higher `revision` if it is"
        " corrected.\n\n"
        'What cannot be done is answered with `{"type": "error", "error": {"code", "message"}}`.'
    ),
    answers=(Answer("The WebSocket is open.", status=101),),
    problems=("bad_request",),
)
