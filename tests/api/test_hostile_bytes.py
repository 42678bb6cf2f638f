"""Any bytes at all, in any order: the server answers or not, forgets the client, and goes on."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.api.app import create_app
from klinetrio.api.hub import PushHub
from tests.api.memory_market import with_minutes
from tests.api.wire import RESET_ON_CLOSE, UPGRADE, ask, frame, read_to_end, request, serving


LIMIT_S = 60.0
# Would break LIMIT_S if one connection were left to be waited for.
LONG_GRACE_S = 240.0

SUBSCRIBE = b'{"op":"subscribe","klines":[{"symbol":"BTC_USDT","interval":"1m"}]}'
PIECES = [
    UPGRADE.replace(b"/ws", b"/api/v1/ws"),
    request("/api/v1/klines?symbol=BTCUSDT&interval=1m"),
    request("/metrics", method="HEAD"),
    request(method="POST", headers="Content-Length: 5\r\n") + b"abcde",
    request(method="POST", headers="Transfer-Encoding: chunked\r\n") + b"5\r\nabcde\r\n0\r\n\r\n",
    request(headers="Expect: 100-continue\r\nContent-Length: 3\r\n"),
    request(headers="Connection: close\r\n"),
    frame(SUBSCRIBE),
    frame(b"x" * 200),
    frame(b"x" * 70_000),
    frame(b"\xff\xfe"),
    frame(b"first", fin=False),
    frame(b"second", opcode=0),
    frame(b"", opcode=8),
    frame(b"\x03\xe8bye", opcode=8),
    frame(b"x", opcode=8),
    frame(b"ping", opcode=9),
    frame(b"pong", opcode=10),
    frame(b"reserved", opcode=5),
    b"\x81\xff" + b"\xff" * 8,
]

sendings = st.lists(
    st.sampled_from(PIECES)
    | st.binary(max_size=20)
    | st.tuples(st.sampled_from(PIECES), st.integers(0, 200), st.binary(max_size=4)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
    ),
    min_size=1,
    max_size=8,
)
starts = st.sampled_from([b"", PIECES[0]])
endings = st.sampled_from(["half-close", "close", "reset", "wait"])


@given(start=starts, pieces=sendings, ending=endings)
@settings(max_examples=60, deadline=None)
async def test_no_client_harms_the_server(start: bytes, pieces: list[bytes], ending: str) -> None:
    """Nothing is left of the client, and the next one is served."""
    market = with_minutes(3)
    app = create_app(lambda: market, PushHub(lambda: market), trio.Event())
    with trio.fail_after(LIMIT_S):
        async with serving(app, grace_s=LONG_GRACE_S) as served:
            stream = await served.connect()
            try:
                await stream.send_all(start)
                if start:
                    await stream.receive_some()
                for piece in pieces:
                    await stream.send_all(piece)
                if ending == "half-close":
                    await stream.send_eof()
                if ending in {"half-close", "wait"}:
                    with trio.move_on_after(0.02):
                        await read_to_end(stream)
            except trio.BrokenResourceError:
                pass  # refused in the middle of it
            if ending == "reset":
                stream.setsockopt(*RESET_ON_CLOSE)
            await stream.aclose()
            assert b'"ok"' in await ask(
                served, request("/healthz", headers="Connection: close\r\n")
            )
            served.shutdown.set()
            await served.ended.wait()
