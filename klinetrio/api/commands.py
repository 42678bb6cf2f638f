"""What a client of ``/api/v1/ws`` may say, and what it is answered; no I/O in here.

    {"op": "subscribe", "klines": [{"symbol": "BTC_USDT", "interval": "1m"}], "id": 1}
    {"op": "subscribe", "klines": [...], "since": 1795228980000}
    {"op": "subscribe", "klines": [...], "since": {"BTC_USDT@1m": 1795228980000}}
    {"op": "unsubscribe", "klines": [...], "id": 2}
    {"op": "ping", "id": 3}

``id`` is optional and comes back in the reply.  A command is carried out as a whole or not at all.
Fields that are not named here are ignored.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from klinetrio.api.allowance import Allowance
from klinetrio.api.dialogue import POLICY_VIOLATION, Answer, Ending
from klinetrio.api.problems import ApiError, quoted
from klinetrio.api.resume import MAX_RESUMES_PER_CLIENT, check_length, open_time_of


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.client import Client
    from klinetrio.api.dialogue import Message
    from klinetrio.api.hub import PushHub
    from klinetrio.api.names import OpenMarket
    from klinetrio.api.resume import Resumer
    from klinetrio.api.topics import Topic

# A client subscribes once and says little after that.  A message counts as one, and one more for
# every 4 KiB of it: 10,000 series in seven messages of 64 KiB count 119.  Executing a message costs
# about 0.15 ms per 4 KiB (measured), so that a client can take 0.3 % of a core in the long run.
MESSAGES_PER_S = 20.0
MESSAGE_BURST = 200.0
MESSAGE_SIZE = 4096

# An id is echoed: it must not make the reply long.
MAX_ID_LENGTH = 64

_CHATTER = Ending(POLICY_VIOLATION, f"expected at most {MESSAGES_PER_S:g} messages per second")


@attrs.define
class Commands:
    """The dialogue of one client."""

    _client: Client
    _hub: PushHub
    _opened: OpenMarket
    _resumer: Resumer
    _resumes: int = attrs.field(default=0, init=False)
    _allowance: Allowance = attrs.field(
        factory=lambda: Allowance(per_second=MESSAGES_PER_S, burst=MESSAGE_BURST), init=False
    )

    def begin(self) -> Answer:
        """Say nothing first."""
        return Answer()

    def hear(self, message: Message) -> Answer:
        """Carry out one message."""
        if not self._allowance.take(1 + len(message or b"") // MESSAGE_SIZE):
            return Answer(ending=_CHATTER)
        tag: dict[str, Any] = {}
        try:
            command = _parse(message)
            if "id" in command:
                tag["id"] = _id_of(command)
            answer = self._carry_out(command, tag)
        except ApiError as error:
            answer = _reply({"type": "error", **error.to_dict(), **tag})
        return answer

    def _carry_out(self, command: dict[str, Any], tag: dict[str, Any]) -> Answer:
        match command.get("op"):
            case "ping":
                return _reply({"type": "pong"} | tag)
            case "subscribe":
                return self._subscribe(command, tag)
            case "unsubscribe":
                topics = self._topics_of(command)
                self._hub.unsubscribe(self._client, topics)
                return _reply({"type": "unsubscribed", "klines": self._named(topics)} | tag)
            case other:
                expected = "op: expected subscribe, unsubscribe or ping"
                raise ApiError(400, "unknown_op", f"{expected}, was {quoted(other)}")

    def _subscribe(self, command: dict[str, Any], tag: dict[str, Any]) -> Answer:
        topics = self._topics_of(command)
        since = self._since_of(command, topics)
        check_length(self._opened, since)
        if since and self._resumes >= MAX_RESUMES_PER_CLIENT:
            message = f"expected at most {MAX_RESUMES_PER_CLIENT} commands with since at a time"
            raise ApiError(400, "too_many_resumes", message)
        self._hub.subscribe(self._client, topics)
        answer = _reply({"type": "subscribed", "klines": self._named(topics)} | tag)
        if not since or self._client.outbox.verdict is not None:
            return answer
        self._resumer.begin(self._client, since)
        return attrs.evolve(answer, work=partial(self._resume, list(since), tag))

    async def _resume(self, topics: Sequence[Topic], tag: dict[str, Any]) -> None:
        self._resumes += 1
        try:
            await self._resumer.run(self._client, topics, tag)
        finally:
            self._resumes -= 1

    def _since_of(self, command: dict[str, Any], topics: Sequence[Topic]) -> dict[Topic, int]:
        """Return from which open time on the past of which topics is wanted."""
        since = command.get("since")
        if since is None:
            return {}
        if not isinstance(since, dict):
            open_time = open_time_of(since)
            return dict.fromkeys(topics, open_time)
        given = {}
        for name, value in since.items():
            symbol, _, interval = name.rpartition("@")
            topic = self._topic(symbol, interval)
            if topic not in topics:
                expected = "since: expected series that are among klines"
                raise ApiError(400, "bad_message", f"{expected}, was {quoted(name)}")
            given[topic] = open_time_of(value)
        return given

    def _topics_of(self, command: dict[str, Any]) -> list[Topic]:
        """Return the topics of the series named by ``klines``, each once."""
        series = command.get("klines")
        if not isinstance(series, list) or not series:
            expected = 'klines: expected a list of {"symbol": ..., "interval": ...}'
            raise ApiError(400, "bad_message", f"{expected}, was {quoted(series)}")
        return list(dict.fromkeys(self._topic_of(each) for each in series))

    def _topic_of(self, series: object) -> Topic:
        if isinstance(series, dict):
            symbol, interval = series.get("symbol"), series.get("interval")
            if isinstance(symbol, str) and isinstance(interval, str):
                return self._topic(symbol, interval)
        expected = 'klines: expected {"symbol": text, "interval": text}'
        raise ApiError(400, "bad_message", f"{expected}, was {quoted(series)}")

    def _topic(self, symbol: str, interval: str) -> Topic:
        return self._hub.native.of_row(self._opened.catalog.row_of(symbol, interval))

    def _named(self, topics: Sequence[Topic]) -> list[dict[str, str]]:
        return [self._opened.catalog.series_of(topic.index) for topic in topics]


def _reply(reply: dict[str, Any]) -> Answer:
    return Answer(orjson.dumps(reply))


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
