"""Control messages and targets of stream connections, without a socket."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from klinetrio.sim.control import (
    INVALID_REQUEST,
    MAX_STREAMS,
    TOO_MANY_REQUESTS,
    Session,
    Target,
    parse_target,
)


def ask(session: Session, **message: Any) -> Any:
    """Send one message; return the answer."""
    reply = session.receive(orjson.dumps(message).decode(), now=0.0)
    assert reply.close is None
    assert reply.text is not None
    return orjson.loads(reply.text)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/ws", Target("", False, ())),
        ("/market/ws", Target("market", False, ())),
        ("/market/ws/a@aggTrade/b@aggTrade", Target("market", False, ("a@aggTrade", "b@aggTrade"))),
        ("/public/ws/0", Target("public", False, ("0",))),
        ("/market/stream?streams=a@x/b@y", Target("market", True, ("a@x", "b@y"))),
        ("/stream", Target("", True, ())),
        ("/private/ws?listenKey=k&events=e", Target("private", False, ())),
        (
            "/market/ws/%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@aggTrade",
            Target("market", False, ("币安人生usdt@aggTrade",)),
        ),
        ("/", None),
        ("/nowhere/ws", None),
    ],
)
def test_targets(target: str, expected: Target | None) -> None:
    """Raw and combined, routed and not, ASCII and not."""
    assert expected == parse_target(target)


@pytest.mark.parametrize("request_id", [1, "5bd0c1e6-uuid", None])
def test_everything_is_acknowledged_and_ids_are_echoed(request_id: object) -> None:
    """Nonsense streams too; a stream named twice is there once."""
    session = Session(combined=False)
    names = ["btcusdt@aggTrade", "BTCUSDT@aggTrade", "no@such", "btcusdt@aggTrade"]
    done = {"result": None, "id": request_id}
    assert done == ask(session, method="SUBSCRIBE", params=names, id=request_id)
    assert done == ask(session, method="UNSUBSCRIBE", params=["no@such", "never"], id=request_id)
    listed = ask(session, method="LIST_SUBSCRIPTIONS", id=request_id)
    assert {"result": names[:2], "id": request_id} == listed


def test_combined_is_a_property() -> None:
    """It can be read and set; other names and types are refused."""
    session = Session(combined=False)
    assert ask(session, method="GET_PROPERTY", params=["combined"], id=2)["result"] is False
    assert ask(session, method="SET_PROPERTY", params=["combined", True], id=5)["result"] is None
    assert session.combined
    assert ask(session, method="GET_PROPERTY", params=["x"])["code"] == 0
    assert ask(session, method="SET_PROPERTY", params=["combined", 1])["code"] == 1
    assert ask(session, method="SET_PROPERTY", params=[])["code"] == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 3),
        ("[]", 2),
        ("{}", 2),
        ('{"method":"X"}', 2),
        ('{"method":"SUBSCRIBE"}', None),
        ('{"method":"SUBSCRIBE","params":[1]}', 2),
        ('{"method":"SUBSCRIBE","params":1}', 2),
    ],
)
def test_bad_messages_are_answered(text: str, code: int | None) -> None:
    """What cannot be done is said; the connection stays."""
    reply = Session(combined=False).receive(text, now=0.0)
    assert reply.close is None
    assert reply.text is not None
    assert code == orjson.loads(reply.text).get("code")


def test_binary_is_refused() -> None:
    """As measured: close 1008."""
    assert Session(combined=False).receive(b"{}", now=0.0) == (None, INVALID_REQUEST)


def test_streams_are_capped() -> None:
    """1024 are accepted; one more is an error, and the connection is lost."""
    session = Session(combined=False)
    names = [f"s{n}@aggTrade" for n in range(MAX_STREAMS)]
    assert "error" not in ask(session, method="SUBSCRIBE", params=names, id=1)
    assert "error" not in ask(session, method="SUBSCRIBE", params=names[:5], id=2)
    reply = session.receive('{"method":"SUBSCRIBE","params":["one@more"],"id":3}', now=0.0)
    assert reply.close == INVALID_REQUEST
    assert reply.text is not None
    expected = {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 3}
    assert expected == orjson.loads(reply.text)


def test_messages_are_rationed() -> None:
    """Fifteen within a second are answered, the sixteenth closes; later ones are new ones."""
    session = Session(combined=False)
    message = '{"method":"LIST_SUBSCRIPTIONS","id":1}'
    assert all(session.receive(message, now=0.5).close is None for _ in range(15))
    assert session.receive(message, now=1.4).close == TOO_MANY_REQUESTS
    assert session.receive(message, now=2.6).close is None
