"""The control messages of the exchange's streams, and its answers; no I/O in here.

Answers, close codes and limits are those observed on the exchange's side in 2026.

Invariants (tests/api/test_streams.py):
  I1  Every SUBSCRIBE and UNSUBSCRIBE is acknowledged, whatever it names; what exists shows only in
      what is delivered.
  I2  ``id`` is echoed unchanged, be it a number, a text or null.
  I3  A stream is delivered once, however often it is asked for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import trio

from klinetrio.api.dialogue import POLICY_VIOLATION, Answer, Ending
from klinetrio.api.problems import ApiError, quoted
from klinetrio.api.streams.names import nothing


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.client import Client
    from klinetrio.api.dialogue import Message
    from klinetrio.api.hub import PushHub
    from klinetrio.api.streams.names import StreamTopics
    from klinetrio.api.streams.target import Target
    from klinetrio.api.topics import Topic

MAX_STREAMS = 1024

# ``1000000bobusdt_perpetual@continuousKline_15m`` has 44 characters.  Of 1,024 unknown names of 64
# characters, up to four bytes each, a list has 0.3 MB.
MAX_NAME = 64

# An id is echoed: it must not make the reply long.  A UUID has 36 characters.
MAX_ID = 64

# Fifteen messages back to back are answered, though ten a second are documented.
MAX_MESSAGES = 15
MESSAGE_WINDOW_S = 1.0

INVALID_REQUEST = Ending(POLICY_VIOLATION, "Invalid request")
TOO_MANY_REQUESTS = Ending(POLICY_VIOLATION, "Too many requests")

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class _Refused(Exception):
    """A message cannot be carried out; the connection stays."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.define
class Control:
    """The dialogue of one client of the streams."""

    _client: Client
    _hub: PushHub
    _topics: StreamTopics
    _target: Target
    # All streams by name in the order in which they were asked for.
    _streams: dict[str, Topic] = attrs.field(factory=dict, init=False)
    _times: deque[float] = attrs.field(factory=deque, init=False)

    def begin(self) -> Answer:
        """Follow what the path names."""
        self._client.outbox.enveloped = self._target.enveloped
        is_sound = all(len(name) <= MAX_NAME for name in self._target.streams)
        if is_sound and self._follow(self._target.streams):
            return Answer()
        return Answer(ending=INVALID_REQUEST)

    def hear(self, message: Message) -> Answer:
        """Carry out one message."""
        if not isinstance(message, str):
            return Answer(ending=INVALID_REQUEST)
        if not self._is_in_time():
            return Answer(ending=TOO_MANY_REQUESTS)
        try:
            return self._carry_out(_parse(message))
        except _Refused as error:
            return Answer(orjson.dumps({"code": error.code, "msg": str(error)}))

    def _is_in_time(self) -> bool:
        now = trio.current_time()
        while self._times and self._times[0] <= now - MESSAGE_WINDOW_S:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= MAX_MESSAGES

    def _carry_out(self, request: dict[str, Any]) -> Answer:
        method, params = request["method"], request.get("params", [])
        tag = _id_of(request)
        match method:
            case "SUBSCRIBE":
                if not self._follow(_names(params)):
                    error = {"code": 4, "msg": "Too many subscriptions"}
                    return Answer(orjson.dumps({"error": error, "id": tag}), INVALID_REQUEST)
                return _result(None, tag)
            case "UNSUBSCRIBE":
                self._leave(_names(params))
                return _result(None, tag)
            case "LIST_SUBSCRIPTIONS":
                return _result(list(self._streams), tag)
            case "SET_PROPERTY":
                self._set_property(params)
                return _result(None, tag)
            case "GET_PROPERTY":
                _expect_combined(params, 1)
                return _result(self._client.outbox.enveloped, tag)
            case _:
                known = ", ".join(f"`{each}`" for each in _METHODS)
                was = method[:MAX_NAME] if isinstance(method, str) else quoted(method)
                raise _Refused(
                    2, f"Invalid request: unknown variant `{was}`, expected one of {known}"
                )

    def _follow(self, names: Sequence[str]) -> bool:
        """Add streams; tell whether there was room for all of them, else none was added."""
        added = [name for name in dict.fromkeys(names) if name not in self._streams]
        if len(self._streams) + len(added) > MAX_STREAMS:
            return False
        find = nothing if self._target.is_idle else self._topics.named
        topics = {name: find(name) for name in added}
        try:
            self._hub.subscribe(self._client, list(topics.values()))
        except ApiError:
            return False
        self._streams |= topics
        return True

    def _leave(self, names: Sequence[str]) -> None:
        gone = [self._streams.pop(name) for name in names if name in self._streams]
        self._hub.unsubscribe(self._client, gone)

    def _set_property(self, params: object) -> None:
        value = _expect_combined(params, 2)
        if not isinstance(value, bool):
            raise _Refused(1, "Invalid value type: expected Boolean")
        self._client.outbox.enveloped = value


def _parse(message: str) -> dict[str, Any]:
    try:
        request = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise _Refused(3, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(request, dict) or "method" not in request:
        raise _Refused(2, "Invalid request: missing field `method` at line 1 column 1")
    return request


def _id_of(request: dict[str, Any]) -> object:
    given = request.get("id")
    is_number = isinstance(given, int) and not isinstance(given, bool) and given >= 0
    if given is None or is_number or (isinstance(given, str) and len(given) <= MAX_ID):
        return given
    raise _Refused(2, "Invalid request: request ID must be an unsigned integer")


def _names(params: object) -> list[str]:
    if isinstance(params, list) and all(isinstance(each, str) for each in params):
        if all(len(each) <= MAX_NAME for each in params):
            return params
        raise _Refused(2, f"Invalid request: stream names have at most {MAX_NAME} characters")
    raise _Refused(2, "Invalid request: params must be an array of stream names")


def _expect_combined(params: object, count: int) -> object:
    """Return the last of so many parameters, of which the first names the only property."""
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise _Refused(2, "Invalid request: property name must be a string")
    if params[0] != "combined":
        raise _Refused(0, "Unknown property")
    if len(params) > count:
        raise _Refused(2, "Invalid request: too many parameters")
    if len(params) < count:
        raise _Refused(1, "Invalid value type: expected Boolean")
    return params[-1]


def _result(result: object, tag: object) -> Answer:
    return Answer(orjson.dumps({"result": result, "id": tag}))
