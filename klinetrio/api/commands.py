"""What a push client may say, and what it is answered; no I/O in here.

    {"op": "subscribe", "klines": [{"symbol": "BTC_USDT", "interval": "1m"}], "id": 1}
    {"op": "unsubscribe", "klines": [...], "id": 2}
    {"op": "ping", "id": 3}

``id`` is optional and comes back in the reply.  A command is carried out as a whole or not at all.
Fields that are not named here are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from klinetrio.api.problems import ApiError, quoted


if TYPE_CHECKING:
    from klinetrio.api.hub import Client, PushHub
    from klinetrio.api.names import Catalog

# An id is echoed: it must not make the reply long.
MAX_ID_LENGTH = 64

Message = str | bytes | None
"""As the framework hands it over: text, binary, or (from Quart) ``None`` for an empty binary."""


def execute(message: Message, client: Client, hub: PushHub, catalog: Catalog) -> str:
    """Carry out one message of a client; return the reply."""
    reply: dict[str, Any] = {}
    try:
        command = _parse(message)
        if "id" in command:
            reply["id"] = _id_of(command)
        reply = _carry_out(command, client, hub, catalog) | reply
    except ApiError as error:
        reply = {"type": "error", **error.to_dict(), **reply}
    return orjson.dumps(reply).decode()


def _parse(message: Message) -> dict[str, Any]:
    if not isinstance(message, str):
        raise ApiError(400, "not_text", "expected a text message, was a binary one")
    try:
        command = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise ApiError(400, "not_json", f"expected JSON, was {quoted(message)}") from None
    if not isinstance(command, dict):
        raise ApiError(400, "bad_message", f"expected an object, was {quoted(command)}")
    return command


def _id_of(command: dict[str, Any]) -> str | int | None:
    given = command["id"]
    is_text = isinstance(given, str) and len(given) <= MAX_ID_LENGTH
    if given is None or is_text or (isinstance(given, int) and not isinstance(given, bool)):
        return given  # type: ignore[no-any-return]
    expected = f"an integer or a text of at most {MAX_ID_LENGTH} characters"
    raise ApiError(400, "bad_message", f"id: expected {expected}, was {quoted(given)}")


def _carry_out(
    command: dict[str, Any], client: Client, hub: PushHub, catalog: Catalog
) -> dict[str, Any]:
    match command.get("op"):
        case "ping":
            return {"type": "pong"}
        case "subscribe":
            rows = _rows_of(command, catalog)
            hub.subscribe(client, rows)
            return {"type": "subscribed", "klines": [catalog.series_of(row) for row in rows]}
        case "unsubscribe":
            rows = _rows_of(command, catalog)
            hub.unsubscribe(client, rows)
            return {"type": "unsubscribed", "klines": [catalog.series_of(row) for row in rows]}
        case other:
            expected = "op: expected subscribe, unsubscribe or ping"
            raise ApiError(400, "unknown_op", f"{expected}, was {quoted(other)}")


def _rows_of(command: dict[str, Any], catalog: Catalog) -> list[int]:
    """Return the rows of the series named by ``klines``, each once."""
    series = command.get("klines")
    if not isinstance(series, list) or not series:
        expected = 'klines: expected a list of {"symbol": ..., "interval": ...}'
        raise ApiError(400, "bad_message", f"{expected}, was {quoted(series)}")
    return list(dict.fromkeys(_row_of(each, catalog) for each in series))


def _row_of(series: object, catalog: Catalog) -> int:
    if isinstance(series, dict):
        symbol, interval = series.get("symbol"), series.get("interval")
        if isinstance(symbol, str) and isinstance(interval, str):
            return catalog.row_of(symbol, interval)
    expected = 'klines: expected {"symbol": text, "interval": text}'
    raise ApiError(400, "bad_message", f"{expected}, was {quoted(series)}")
