"""The proxy's side of SOCKS5, byte by byte."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.sim.socks5_protocol import (
    MAX_HANDSHAKE,
    AddressType,
    Handshake,
    Refused,
    ReplyCode,
    State,
    Target,
    reply,
)


def request(target: Target, command: int = 1) -> bytes:
    """Return a request as a client sends it."""
    match target.address_type:
        case AddressType.NAME:
            raw = bytes([len(target.host)]) + target.host.encode()
        case _:
            raw = ip_address(target.host).packed
    head = bytes([5, command, 0, target.address_type])
    return head + raw + target.port.to_bytes(2)


names = st.text("abcdefghijklmnopqrstuvwxyz.-0123456789", min_size=1, max_size=255)
ports = st.integers(0, 65_535)
targets = st.one_of(
    st.builds(Target, names, ports, st.just(AddressType.NAME)),
    st.builds(
        Target, st.ip_addresses(v=4).map(IPv4Address.__str__), ports, st.just(AddressType.IPV4)
    ),
    st.builds(
        Target, st.ip_addresses(v=6).map(IPv6Address.__str__), ports, st.just(AddressType.IPV6)
    ),
)
logins = st.tuples(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))


@given(
    target=targets,
    login=st.none() | logins,
    rest=st.binary(max_size=50),
    cuts=st.lists(st.integers(0, 700), max_size=8),
)
def test_pieces_change_nothing(
    target: Target, login: tuple[str, str] | None, rest: bytes, cuts: list[int]
) -> None:
    """However the bytes are cut, the answers, the target and the early data are the same."""
    sent, answers = b"\x05\x02\x00\x02", b"\x05\x00"
    if login is not None:
        name, password = (each.encode() for each in login)
        sent += bytes([1, len(name)]) + name + bytes([len(password)]) + password
        answers = b"\x05\x02\x01\x00"
    sent += request(target) + rest
    handshake = Handshake(*(login or (None, None)))
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    got = b"".join(handshake.receive(sent[start:end]) for start, end in pairwise(edges))
    assert got == answers
    assert handshake.state is State.DONE
    assert handshake.target == target
    assert handshake.take_rest() == rest


HELLO, OK = b"\x05\x01\x00", b"\x05\x00"
NAMED = Target("x", 1, AddressType.NAME)


@pytest.mark.parametrize(
    ("username", "sent", "answer"),
    [
        (None, b"\x04", b""),
        (None, b"\x05\x01\x02", b"\x05\xff"),
        ("u", b"\x05\x01\x00", b"\x05\xff"),
        ("u", b"\x05\x01\x02\x01\x01u\x01q", b"\x05\x02\x01\x01"),
        (None, HELLO + request(NAMED, command=2), OK + reply(ReplyCode.COMMAND_NOT_SUPPORTED)),
        (None, HELLO + b"\x05\x01\x00\x02a", OK + reply(ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED)),
        (None, HELLO + b"\x05\x01\x09\x01a", OK + reply(ReplyCode.GENERAL_FAILURE)),
        (None, HELLO + b"\x05\x01\x00\x03\x00\x00\x50", OK + reply(ReplyCode.GENERAL_FAILURE)),
        (None, HELLO + b"\x05\x01\x00\x03\x01\xff\x00\x50", OK + reply(ReplyCode.GENERAL_FAILURE)),
    ],
)
@pytest.mark.parametrize("size", [1, 1_000])
def test_refusals(username: str | None, sent: bytes, answer: bytes, size: int) -> None:
    """What is wrong ends the handshake with the answer the RFC has for it, in pieces or not."""
    handshake = Handshake(username, "p")
    got = b""
    with pytest.raises(Refused) as caught:  # noqa: PT012  (any of the pieces may raise)
        for start in range(0, len(sent), size):
            got += handshake.receive(sent[start : start + size])
    assert got + caught.value.answer == answer
    assert handshake.state is State.FAILED


@given(st.binary(max_size=2_000))
def test_any_bytes_are_refused_or_wait(data: bytes) -> None:
    """No input makes anything but a refusal, a target, or a wait for little more."""
    handshake = Handshake()
    try:
        handshake.receive(data)
    except Refused:
        return
    assert handshake.state is State.DONE or len(handshake.take_rest()) <= MAX_HANDSHAKE


def test_replies_carry_either_kind_of_address() -> None:
    """Ten bytes for IPv4, twenty-two for IPv6."""
    assert reply(ReplyCode.SUCCEEDED, ("127.0.0.1", 80)) == b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00P"
    assert len(reply(ReplyCode.SUCCEEDED, ("::1", 80))) == 22
