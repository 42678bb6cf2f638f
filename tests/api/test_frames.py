"""Ready frames past the protocol machine, over real sockets."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from klinetrio.httpd import text_frame
from klinetrio.httpd.frames import FramePort, Sender
from tests.api.wire import payloads


LIMIT_S = 60.0


async def stream_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return both ends of a connection that takes little before it is full."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        each.setblocking(False)
    return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (ours, theirs))  # type: ignore[return-value]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_frame_holds_its_payload(length: int) -> None:
    """All three forms of a length."""
    payload = b"x" * length

    assert payloads(text_frame(payload) + text_frame(b"next")) == [payload, b"next"]


async def test_frames_stay_whole_and_in_order_whoever_sends() -> None:
    """I1, I2: what did not fit leaves before what the protocol machine says next."""
    ours, theirs = await stream_pair()
    sender = Sender(ours)
    first, second = text_frame(b"1" * 300_000), text_frame(b"2" * 10)
    received = bytearray()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            assert not sender.send_now(first)
            nursery.start_soon(sender.send, second)
            await wait_all_tasks_blocked()
            while len(received) < len(first) + len(second):
                received += await theirs.receive_some()
        assert await sender.send()
        assert sender.send_now(text_frame(b"3"))

    assert payloads(bytes(received)) == [b"1" * 300_000, b"2" * 10]
    await ours.aclose()
    await theirs.aclose()


async def test_peer_that_is_gone_fails_the_port_once_it_drains() -> None:
    """A send that cannot be told from a full socket is told by the wait for room."""
    ours, theirs = await stream_pair()
    await theirs.aclose()
    failures = []
    port = FramePort(Sender(ours), lambda: True, lambda: failures.append("gone"))
    with trio.fail_after(LIMIT_S):
        while port.send_now(text_frame(b"x" * 1000)):
            pass
        await port.drain()

    assert failures == ["gone"]
    await ours.aclose()


async def test_nothing_follows_the_end() -> None:
    """I3: after a close frame frames are dropped."""
    ours, theirs = await stream_pair()
    sender = Sender(ours)
    port = FramePort(sender, lambda: False, lambda: None)
    assert port.send_now(text_frame(b"late"))
    sender.is_shut = True
    assert await sender.send(text_frame(b"later"))
    await ours.aclose()
    with trio.fail_after(LIMIT_S):
        assert await theirs.receive_some() == b""
    await theirs.aclose()
