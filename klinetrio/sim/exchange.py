"""The simulated exchange: a market, its REST, its streams, and everything that can go wrong.

Nursery order is the order of leaving: streams and market end first, at once; REST then answers
what it has begun, for at most REST_GRACE_S.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import trio

from klinetrio.sim.faults import FaultPlan, FaultyFeed
from klinetrio.sim.hub import Hub
from klinetrio.sim.rest import RestExchange, RestFailure
from klinetrio.sim.serving import address_of, listen, serve_rest, trio_listener
from klinetrio.sim.weight import RateLimits
from klinetrio.sim.wire import Wire
from klinetrio.sim.ws import Connection, Pump, WsCounts, WsLimits, serve_client


if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from quart_trio import QuartTrio

    from klinetrio.sim.idset import IdSet
    from klinetrio.sim.market import Market


@attrs.frozen
class ExchangeStatistics:
    """What an exchange has done so far.

    Attributes:
        connections_open: Stream connections now.
        connections_accepted: Stream connections ever.
        frames_sent: WebSocket text frames that sockets have taken, of all connections.
        overflows: Connections dropped because they did not read.
        rest_calls: REST calls by route.
        weight_used: REST weight used in this UTC minute.
        weight_highest: The most weight used in any minute.
        weight_refused: REST calls refused because of their weight, or during a ban for it.
        bans: How often the client was banned for its weight.
        faults: Stream faults that happened, by name.
    """

    connections_open: int
    connections_accepted: int
    frames_sent: int
    overflows: int
    rest_calls: dict[str, int]
    weight_used: int
    weight_highest: int
    weight_refused: int
    bans: int
    faults: dict[str, int]


class SimulatedExchange:
    """A running exchange; made by ``open_simulated_exchange``.

    Attributes:
        market: Where its trades come from.
        rest_url: As the configuration's ``exchange.rest_url``.
        ws_url: As the configuration's ``exchange.ws_url``.
        rest_app: The ASGI application of the REST side.
    """

    def __init__(
        self,
        market: Market,
        *,
        faults: FaultPlan,
        rate_limits: RateLimits,
        ws_limits: WsLimits,
    ) -> None:
        self.market = market
        self.rest_url = ""
        self.ws_url = ""
        self.rest = RestExchange(market.ledger, rate_limits)
        self.rest_app: QuartTrio = self.rest.make_app()
        self._hub = Hub(each.symbol for each in market.ledger.instruments)
        self._feed = FaultyFeed(faults, self._hub.publish, self._hub.inject)
        self._ws_limits = ws_limits
        self._counts = WsCounts()
        self._pump = Pump()
        self._connections: set[Connection] = set()
        # Symbols whose every new subscriber is muted, too; the value is whether it gets pongs.
        self._muted: dict[str, bool] = {}

    def statistics(self) -> ExchangeStatistics:
        """Return what happened so far."""
        meter = self.rest.meter
        return ExchangeStatistics(
            connections_open=len(self._connections),
            connections_accepted=self._counts.accepted,
            frames_sent=self._counts.frames,
            overflows=self._counts.overflows,
            rest_calls=dict(self.rest.calls),
            weight_used=meter.used,
            weight_highest=meter.highest,
            weight_refused=meter.refused,
            bans=meter.bans,
            faults=dict(self._feed.counts),
        )

    def delivered(self, symbol: str) -> IdSet:
        """Return the aggregate ids of a symbol that at least one socket has taken."""
        return self._hub.delivered(symbol)

    def subscribers(self, symbol: str) -> int:
        """Return how many connections are subscribed to a symbol's trades."""
        return len(self._hub.subscribers(symbol))

    def drop_connections(self, symbol: str | None = None) -> int:
        """Tear connections without a close frame; the peer sees a reset.

        Args:
            symbol: Only those subscribed to this symbol.

        Returns:
            How many.
        """
        chosen = self._chosen(symbol)
        for connection in chosen:
            connection.drop()
        return len(chosen)

    def close_connections(
        self, symbol: str | None = None, *, code: int = 1001, reason: str = ""
    ) -> int:
        """Close connections with a close frame, after what they still have to send."""
        chosen = self._chosen(symbol)
        for connection in chosen:
            connection.close(code, reason)
        return len(chosen)

    def mute(self, symbol: str, *, pongs: bool = True, lasting: bool = False) -> int:
        """Let a symbol's connections fall silent.

        Args:
            symbol: Whose connections; all they carry falls silent.
            pongs: Whether pings are still answered.
            lasting: Whether connections that subscribe later are silent from the start, too.

        Returns:
            How many connections are silent now.
        """
        if lasting:
            self._muted[symbol] = pongs
        chosen = self._chosen(symbol)
        for connection in chosen:
            connection.mute(pongs=pongs)
        return len(chosen)

    def unmute(self, symbol: str) -> None:
        """Let a symbol's connections speak again; what they missed is lost."""
        self._muted.pop(symbol, None)
        for connection in self._chosen(symbol):
            connection.unmute()

    def inject(self, symbol: str, text: str) -> None:
        """Send any text to a symbol's subscribers, as it is."""
        self._hub.inject(symbol, text)

    def lose(self, symbol: str, count: int = 1) -> None:
        """Let the next frames of a symbol get lost on their way; REST has the trades."""
        self._feed.lose(symbol, count)

    def hold_back(self, symbol: str, seconds: float) -> None:
        """Send what happens to a symbol from now on only when so many seconds are over."""
        self._feed.hold_back(symbol, seconds)

    def calm(self) -> None:
        """Let nothing go wrong any more; what was lost stays lost."""
        self._feed.calm()
        self._muted.clear()
        for connection in self._connections:
            connection.unmute()
        self.rest.failures.clear()

    def rest_failure(
        self,
        status: int | None,
        body: bytes | dict[str, Any] = b"",
        count: int = 1,
        *,
        route: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next REST calls in another way.

        Args:
            status: HTTP status; ``None`` never answers.
            body: The answer's body; a dictionary is sent as JSON.
            count: How many calls.
            route: Only calls of this route, as in ``klines``.
            headers: Further headers.
        """
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        self.rest.failures.append(RestFailure(status, raw, count, headers or {}, route))

    def _chosen(self, symbol: str | None) -> list[Connection]:
        if symbol is None:
            return list(self._connections)
        subscribed = set(self._hub.subscribers(symbol))
        return [each for each in self._connections if each in subscribed]

    async def run_market(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Trade."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed.run)
            nursery.start_soon(self._pump.run)
            await nursery.start(self.market.run, self._feed.deliver)
            task_status.started()

    async def serve_stream(
        self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    ) -> None:
        """Serve one stream client."""
        connection = Connection(
            Wire(stream),
            self._hub,
            self.market.clock,
            self._ws_limits,
            self._counts,
            self._pump,
            self._subscribed,
        )
        self._connections.add(connection)
        try:
            await serve_client(connection)
        finally:
            self._connections.discard(connection)

    def _subscribed(self, connection: Connection, symbols: list[str]) -> None:
        for symbol in symbols:
            if symbol in self._muted:
                connection.mute(pongs=self._muted[symbol])
            self.market.subscribed(symbol)


@asynccontextmanager
async def open_simulated_exchange(
    market: Market,
    *,
    host: str = "127.0.0.1",
    rest_port: int = 0,
    ws_port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    faults: FaultPlan | None = None,
    rate_limits: RateLimits | None = None,
    ping_interval_s: float = 180.0,
    pong_timeout_s: float = 600.0,
    max_connection_s: float | None = None,
) -> AsyncIterator[SimulatedExchange]:
    """Run an exchange on loopback for the length of a ``with`` block.

    Args:
        market: Where its trades come from; it runs with the exchange.
        host: Address to listen on.
        rest_port: 0 takes any.
        ws_port: 0 takes any.
        ssl_context: Of a server; both sides then speak TLS.
        faults: What goes wrong on the streams by chance.
        rate_limits: How strict REST is.
        ping_interval_s: Between pings to stream clients.
        pong_timeout_s: How long their pongs may take.
        max_connection_s: Lifetime of a stream connection; ``None`` is a day.

    Cancellation: ends everything at once.
    """
    ws_limits = WsLimits(ping_interval_s, pong_timeout_s)
    if max_connection_s is not None:
        ws_limits = attrs.evolve(ws_limits, max_connection_s=max_connection_s)
    exchange = SimulatedExchange(
        market,
        faults=faults or FaultPlan(),
        rate_limits=rate_limits or RateLimits(),
        ws_limits=ws_limits,
    )
    shutdown = trio.Event()
    secure = "s" if ssl_context else ""
    with listen(host, rest_port) as rest, listen(host, ws_port) as streams:
        exchange.rest_url = f"http{secure}://{address_of(rest)}"
        exchange.ws_url = f"ws{secure}://{address_of(streams)}/market"
        async with trio.open_nursery() as rest_nursery:
            await rest_nursery.start(serve_rest, exchange.rest_app, rest, ssl_context, shutdown)
            async with trio.open_nursery() as nursery:
                await nursery.start(exchange.run_market)
                listener = trio_listener(streams, ssl_context)
                await nursery.start(trio.serve_listeners, exchange.serve_stream, [listener])
                yield exchange
                nursery.cancel_scope.cancel()
            exchange.rest.closing.set()
            shutdown.set()
