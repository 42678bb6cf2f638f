"""A SOCKS5 proxy: for the demo to go through, and for tests to break.

It resolves names itself, which is what ``socks5h`` asks for; ``resolve`` maps made-up names to
loopback addresses, so a test that uses ``fapi.sim.invalid`` proves that nobody else resolved it.

Invariants:
  I1  at most MAX_TUNNELS clients at once: 1,000 * 2 * 64 KiB of copies in flight = 131 MB at most.
  I2  a client that does not finish its handshake is gone after HANDSHAKE_S.
  I3  an end of one direction is passed on as such; the tunnel ends with the second.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import attrs
import trio

from klinetrio.sim.relay import relay
from klinetrio.sim.socks5_faults import (
    NORMAL,
    Budget,
    Mode,
    ProxyBehaviour,
    ProxyStatistics,
    send_answer,
)
from klinetrio.sim.socks5_protocol import Handshake, Refused, ReplyCode, State, Target, reply


if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TUNNELS = 1000
HANDSHAKE_S = 30.0
CONNECT_S = 20.0

_BACKLOG = 1024
_READ = 1024

# The newest requested targets that are kept to be looked at.
_KEEP_TARGETS = 10_000

_log = logging.getLogger("klinetrio.sim.socks5")


@attrs.define(eq=False)
class Socks5Proxy:
    """A running proxy.

    Attributes:
        behaviour: How it behaves; may be set at any time, for clients that come after.
        host: Where it listens.
        port: Where it listens.
    """

    username: str | None
    password: str | None
    resolve: dict[str, tuple[str, int]]
    behaviour: ProxyBehaviour
    host: str = ""
    port: int = 0
    _accepted: int = attrs.field(default=0, init=False)
    _clients: int = attrs.field(default=0, init=False)
    _opened: int = attrs.field(default=0, init=False)
    _refused: int = attrs.field(default=0, init=False)
    _targets: list[Target] = attrs.field(factory=list, init=False)
    _requests: Counter[Target] = attrs.field(factory=Counter, init=False)
    _tunnels: set[trio.CancelScope] = attrs.field(factory=set, init=False)

    @property
    def url(self) -> str:
        """As the configuration's ``proxy.url``."""
        login = "" if self.username is None else f"{self.username}:{self.password}@"
        return f"socks5h://{login}{self.host}:{self.port}"

    def statistics(self) -> ProxyStatistics:
        """Return what happened so far."""
        return ProxyStatistics(
            accepted=self._accepted,
            tunnels_open=len(self._tunnels),
            tunnels_opened=self._opened,
            refused=self._refused,
            targets=tuple(self._targets),
            requests=dict(self._requests),
        )

    def cut_tunnels(self) -> int:
        """Tear all open tunnels; return how many."""
        for scope in self._tunnels:
            scope.cancel()
        return len(self._tunnels)

    async def serve_client(self, stream: trio.SocketStream) -> None:
        """Serve one client to its end; whatever it does, only it is gone."""
        self._accepted += 1
        if self._clients >= MAX_TUNNELS:
            self._refused += 1
            stream.socket.close()
            return
        self._clients += 1
        try:
            async with stream:
                await self._serve(stream)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as group:
            _log.debug("client failed: %r", group.exceptions)
        finally:
            self._clients -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        behaviour = self.behaviour
        with trio.move_on_after(HANDSHAKE_S) as patience:
            handshake = await self._shake_hands(stream, behaviour)
        if patience.cancelled_caught or handshake is None or handshake.target is None:
            self._refused += 1
            return
        self._note(handshake.target)
        server, answer = await self._connect(handshake.target, behaviour)
        if server is None:
            self._refused += 1
            await send_answer(stream, answer, behaviour)
            return
        async with server:
            await server.send_all(handshake.take_rest())
            await self._tunnel(stream, server, answer, behaviour)

    async def _shake_hands(
        self, stream: trio.SocketStream, behaviour: ProxyBehaviour
    ) -> Handshake | None:
        if behaviour.mode is Mode.STALL_ACCEPTED:
            await trio.sleep_forever()
        wrong = behaviour.mode is Mode.WRONG_AUTH
        # Without a password to be wrong about, any that is offered is refused.
        name = "\0" if wrong else self.username
        handshake = Handshake(name, self.password)
        try:
            while handshake.state is not State.DONE:
                data = await stream.receive_some(_READ)
                if not data:
                    return None
                await send_answer(stream, handshake.receive(data), behaviour)
                if behaviour.mode is Mode.STALL_GREETED:
                    await trio.sleep_forever()
        except Refused as refused:
            _log.debug("client refused: %s", refused)
            await send_answer(stream, refused.answer, behaviour)
            return None
        return handshake

    def _note(self, target: Target) -> None:
        self._requests[target] += 1
        self._targets.append(target)
        del self._targets[:-_KEEP_TARGETS]

    async def _connect(
        self, target: Target, behaviour: ProxyBehaviour
    ) -> tuple[trio.SocketStream | None, bytes]:
        """Return the connection to the target, if any, and what to tell the client."""
        if behaviour.mode is Mode.REFUSE:
            return None, reply(ReplyCode.CONNECTION_REFUSED)
        address = self.resolve.get(target.host, (target.host, target.port))
        try:
            with trio.fail_after(CONNECT_S):
                server = await trio.open_tcp_stream(*address)
        except (OSError, trio.TooSlowError) as error:
            return None, reply(_code_of(error))
        return server, reply(ReplyCode.SUCCEEDED, server.socket.getsockname()[:2])

    async def _tunnel(
        self,
        client: trio.SocketStream,
        server: trio.SocketStream,
        answer: bytes,
        behaviour: ProxyBehaviour,
    ) -> None:
        budget = Budget(behaviour.cut_after) if behaviour.mode is Mode.CUT else None
        self._opened += 1
        with trio.CancelScope() as scope:
            self._tunnels.add(scope)
            try:
                # The tunnel counts from here on: whoever reads the answer finds it in the statistics.
                await send_answer(client, answer, behaviour)
                if budget is None:
                    await relay(client, server)
                else:
                    await relay(client, server, allow=budget.take)
            finally:
                self._tunnels.discard(scope)


_CODES = {
    errno.ECONNREFUSED: ReplyCode.CONNECTION_REFUSED,
    errno.ENETUNREACH: ReplyCode.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: ReplyCode.HOST_UNREACHABLE,
    errno.ETIMEDOUT: ReplyCode.TTL_EXPIRED,
}


def _code_of(error: OSError | trio.TooSlowError) -> ReplyCode:
    if isinstance(error, socket.gaierror):
        return ReplyCode.HOST_UNREACHABLE
    if isinstance(error, trio.TooSlowError):
        return ReplyCode.TTL_EXPIRED
    # open_tcp_stream sums up several failed addresses in an error whose cause has the numbers.
    causes = [error, *getattr(error.__cause__, "exceptions", [error.__cause__])]
    codes = [_CODES[each.errno] for each in causes if getattr(each, "errno", None) in _CODES]
    return codes[0] if codes else ReplyCode.GENERAL_FAILURE


async def serve_socks5(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    username: str | None = None,
    password: str | None = None,
    resolve: Mapping[str, tuple[str, int]] | None = None,
    behaviour: ProxyBehaviour = NORMAL,
    task_status: trio.TaskStatus[Socks5Proxy] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Run a proxy; ``nursery.start`` returns it once it listens.

    Args:
        host: Address to listen on.
        port: 0 takes any.
        username: Needed to get in; ``None`` lets everybody in.
        password: Likewise.
        resolve: Real addresses of names that no resolver knows; the requested port is ignored.
        behaviour: How it behaves at first.
        task_status: Started with the ``Socks5Proxy``.

    Cancellation: tears all tunnels at once.
    """
    proxy = Socks5Proxy(username, password, dict(resolve or {}), behaviour)
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    proxy.host, proxy.port = listeners[0].socket.getsockname()[:2]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, proxy.serve_client, listeners)
        task_status.started(proxy)
    raise AssertionError("a listener ended by itself")  # pragma: no cover
