"""The control messages of a stream connection, without any I/O.

``parse_target`` reads the URL, ``Session.receive`` answers one message; what is to be sent or
closed is returned, never done.  All answers are those seen on Binance's side in October 2026.

Invariants:
  I1  every SUBSCRIBE and UNSUBSCRIBE is acknowledged, whatever it names; what exists shows only
      in what is delivered.
  I2  ``id`` is echoed unchanged, be it a number, a text or null.
  I3  a stream is subscribed once, however often it is asked for.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import orjson


MAX_STREAMS = 1024

# Fifteen messages back to back are answered, though ten a second are documented.
MAX_MESSAGES = 15
MESSAGE_WINDOW_S = 1.0

_POLICY_VIOLATION = 1008
_CATEGORIES = frozenset({"market", "public", "private"})
_METHODS = (
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST_SUBSCRIPTIONS",
    "SET_PROPERTY",
    "GET_PROPERTY",
)


class Close(NamedTuple):
    """A close frame to be sent."""

    code: int
    reason: str


INVALID_REQUEST = Close(_POLICY_VIOLATION, "Invalid request")
TOO_MANY_REQUESTS = Close(_POLICY_VIOLATION, "Too many requests")


@attrs.frozen
class Target:
    """What a URL asks for.

    Attributes:
        category: ``market``, ``public``, ``private`` or, unrouted, nothing.
        combined: Whether events come in an envelope that names the stream.
        streams: Streams named in the URL.
    """

    category: str
    combined: bool
    streams: tuple[str, ...]

    @property
    def has_trades(self) -> bool:
        """Whether trades are pushed here; elsewhere all is accepted and nothing comes."""
        return self.category == "market"


def parse_target(target: str) -> Target | None:
    """Return what the request target asks for; ``None`` if there is no such endpoint."""
    url = urlsplit(target)
    segments = [unquote(each) for each in url.path.split("/") if each]
    category = segments.pop(0) if segments and segments[0] in _CATEGORIES else ""
    match segments:
        case ["ws", *streams]:
            return Target(category, False, tuple(streams))
        case ["stream"]:
            names = "/".join(parse_qs(url.query).get("streams", []))
            return Target(category, True, tuple(each for each in names.split("/") if each))
        case _:
            return None


class Reply(NamedTuple):
    """What to send, and whether to close after it."""

    text: bytes | None
    close: Close | None = None


@attrs.define
class Session:
    """The state of one connection that control messages change.

    Attributes:
        combined: Whether events come in an envelope.
        streams: Subscribed streams, in order.
    """

    combined: bool
    streams: dict[str, None] = attrs.field(factory=dict)
    _times: deque[float] = attrs.field(factory=deque, init=False)

    def subscribe(self, names: list[str]) -> bool:
        """Add streams; return whether they fit."""
        wanted = {**self.streams, **dict.fromkeys(names)}
        if len(wanted) > MAX_STREAMS:
            return False
        self.streams = wanted
        return True

    def receive(self, message: str | bytes, now: float) -> Reply:
        """Answer one message that came at ``now`` (seconds of any steady clock)."""
        if isinstance(message, bytes):
            return Reply(None, INVALID_REQUEST)
        while self._times and self._times[0] <= now - MESSAGE_WINDOW_S:
            self._times.popleft()
        self._times.append(now)
        if len(self._times) > MAX_MESSAGES:
            return Reply(None, TOO_MANY_REQUESTS)
        try:
            request = orjson.loads(message)
        except orjson.JSONDecodeError:
            return _error(3, "Invalid JSON: expected value at line 1 column 1")
        if not isinstance(request, dict) or "method" not in request:
            return _error(2, "Invalid request: missing field `method` at line 1 column 1")
        return self._answer(request["method"], request.get("params", []), request.get("id"))

    def _answer(self, method: object, params: Any, request_id: object) -> Reply:
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE" if not _are_names(params):
                return _error(2, "Invalid request: expected an array of streams")
            case "SUBSCRIBE":
                if not self.subscribe(params):
                    return self._too_many(request_id)
            case "UNSUBSCRIBE":
                self.streams = {each: None for each in self.streams if each not in params}
            case "LIST_SUBSCRIPTIONS":
                return _result(list(self.streams), request_id)
            case "SET_PROPERTY" | "GET_PROPERTY":
                return self._property(method == "SET_PROPERTY", params, request_id)
            case _:
                known = ", ".join(f"`{each}`" for each in _METHODS)
                return _error(2, f"Invalid request: unknown variant `{method}`, expected {known}")
        return _result(None, request_id)

    def _property(self, is_set: bool, params: Any, request_id: object) -> Reply:
        match params:
            case [str(name), *_] if name != "combined":
                return _error(0, "Unknown property")
            case [str(), bool(value)] if is_set:
                self.combined = value
                return _result(None, request_id)
            case [str(), *_] if is_set:
                return _error(1, "Invalid value type: expected Boolean")
            case [str()]:
                return _result(self.combined, request_id)
            case _:
                return _error(2, "Invalid request: property name must be a string")

    def _too_many(self, request_id: object) -> Reply:
        error = {"code": 4, "msg": "Too many subscriptions"}
        return Reply(orjson.dumps({"error": error, "id": request_id}), INVALID_REQUEST)


def _are_names(params: Any) -> bool:
    return isinstance(params, list) and all(isinstance(each, str) for each in params)


def _result(result: object, request_id: object) -> Reply:
    return Reply(orjson.dumps({"result": result, "id": request_id}))


def _error(code: int, message: str) -> Reply:
    return Reply(orjson.dumps({"code": code, "msg": message}))
