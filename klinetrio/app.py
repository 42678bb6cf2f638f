"""The composition root: the only place that knows every part.

Nesting order of nurseries is the shutdown order.  From the inside out: connections and repair
leave first, then the actors work off what they have, then comes the last swap, the last flush,
the push clients' close frames, and the server last.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from klinetrio import __version__
from klinetrio.api.app import create_app, run_api
from klinetrio.api.board import TickerBoard
from klinetrio.api.hub import PushHub
from klinetrio.assembly import assemble
from klinetrio.engine.engine import Engine
from klinetrio.errors import DecodeError, ExchangeError, NetworkError, ScalesChanged, StoreError
from klinetrio.exchange.clock import ExchangeClock, run_clock_sync
from klinetrio.exchange.dial import Dialer, parse_proxy
from klinetrio.exchange.feed import run_feed
from klinetrio.exchange.rest import BinanceRest, open_rest
from klinetrio.httpd import open_listener, room_for_connections
from klinetrio.insist import insist
from klinetrio.logs import log_event
from klinetrio.market import LiveMarket
from klinetrio.start import learn_time, learn_universe, read_past_run, restore
from klinetrio.statistics import run_statistics
from klinetrio.storage.claim import claim
from klinetrio.storage.hold import Hold
from klinetrio.storage.spool import Spool
from klinetrio.supervise import Supervision, describe, supervise


if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from klinetrio.config import Config
    from klinetrio.domain.listing import Listing
    from klinetrio.parts import Parts

log = logging.getLogger("klinetrio.app")

# Bounds of the orderly shutdown, so that it always ends: actors have at most a full inbox each to
# work off, 1,000 * 256 trades in 4 s; a flush of all series takes well under a second.  What the
# database has not taken after its part of the flush's grace goes to the spool in the rest.
DRAIN_GRACE_S = 10.0
DATABASE_GRACE_S = 12.0
FLUSH_GRACE_S = 20.0
CLOSE_GRACE_S = 5.0
API_GRACE_S = 5.0

# Of the connections to the interfaces one in two may be a push client: REST stays reachable.
PUSH_SHARE = 2

T = TypeVar("T")

_EXCHANGE_TROUBLE = (NetworkError, ExchangeError, DecodeError)


@attrs.define
class Daemon:
    """The whole daemon.

    Args:
        config: The configuration.
        clock: The exchange's clock; another than the default only for simulated exchanges.
        ssl_context: For TLS to the exchange; the platform's certificates if None.

    Attributes:
        stop: Set it to end the daemon in order.
        market: What the interfaces serve; None until the start is over.
        started: Set when the start is over.
        address: Where the interfaces are served, as ``http://127.0.0.1:8080``.
    """

    config: Config
    clock: ExchangeClock | None = None
    ssl_context: ssl.SSLContext | None = None
    stop: trio.Event = attrs.field(factory=trio.Event)
    market: LiveMarket | None = None
    started: trio.Event = attrs.field(factory=trio.Event)
    address: str = ""

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until ``stop`` is set or a part keeps failing.

        Args:
            task_status: Started with the address once the interfaces are served.

        Raises:
            ConfigError: The configuration turned out to be impossible.
            ClaimError: Another daemon keeps the database.
            StoreError: The database cannot be opened.
            GaveUp: A part kept failing.
        """
        hold = Hold(self.config.storage.url)
        async with AsyncExitStack() as stack:
            # First of all, and given up last: whoever is refused has served and written nothing.
            stack.push_async_callback(hold.release)
            await hold.claim()
            listener = stack.enter_context(open_listener(self.config.api.bind))
            host, port = listener.getsockname()[:2]
            self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            log_event(log, logging.INFO, "serving", address=self.address, version=__version__)
            task_status.started(self.address)
            room = room_for_connections()
            while await self._run_served(listener, room, hold):
                self.market = None

    async def _run_served(self, listener: socket.socket, room: int, hold: Hold) -> bool:
        """Run the core and its interfaces; tell whether all of it has to start over.

        It has to if a database that came late has more decimals than it began with.  The interfaces
        know symbols and decimals by heart, so they end with the core that they were made for.
        """
        starts_over = False
        hub = PushHub(lambda: self.market, room // PUSH_SHARE)
        board = TickerBoard(lambda: self.market)
        closing = trio.Event()
        make_app = partial(create_app, lambda: self.market, hub, closing, board)
        serve = partial(run_api, make_app, listener, shutdown=closing, max_connections=room)
        async with trio.open_nursery() as api_nursery:
            api = Supervision("api")
            api_nursery.start_soon(partial(supervise, serve, state=api))
            try:
                await self._run_core(hub, board, api, hold)
            except* ScalesChanged as group:
                log_event(log, logging.WARNING, "starting_over", cause=describe(group))
                starts_over = True
            finally:
                closing.set()
                api_nursery.cancel_scope.deadline = trio.current_time() + API_GRACE_S
        return starts_over

    async def _run_core(
        self, hub: PushHub, board: TickerBoard, api: Supervision, hold: Hold
    ) -> None:
        """Start, run and stop everything but the interfaces."""
        config, clock = self.config, self.clock or ExchangeClock()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_close, hold.close)
            spool = Spool(config.storage.spool_folder, config.storage.spool_owner)
            stack.enter_context(claim(spool.path, f"storage.spool {spool.path.parent}"))
            await trio.to_thread.run_sync(spool.open)
            stack.push_async_callback(_close, spool.close)
            dialer = Dialer(parse_proxy(config.proxy.url), self.ssl_context)
            rest = await stack.enter_async_context(
                open_rest(
                    config.exchange.rest_url,
                    dialer,
                    clock,
                    ssl_context=self.ssl_context,
                    weight_share=config.exchange.weight_share,
                )
            )
            prepare = partial(self._prepare, rest, clock, hold, spool)
            prepared = await run_unless(self.stop, prepare)
            if prepared is None:
                return
            engine, listing = prepared
            parts = assemble(
                config=config,
                engine=engine,
                listing=listing,
                rest=rest,
                clock=clock,
                dialer=dialer,
                hold=hold,
                spool=spool,
                hub=hub,
                board=board,
            )
            parts.supervisions["api"] = api
            self.market = LiveMarket(parts)
            self.started.set()
            await run_parts(parts, self.stop)

    async def _prepare(
        self, rest: BinanceRest, clock: ExchangeClock, hold: Hold, spool: Spool
    ) -> tuple[Engine, Listing]:
        """Return an engine that continues where the last run stopped, and the exchange's listing."""
        known = await trio.to_thread.run_sync(hold.known_symbols, spool)
        await insist("exchange time", partial(learn_time, rest, clock))
        registry, listing = await insist(
            "universe", partial(learn_universe, self.config, rest, known)
        )
        stored = await hold.attach(spool, registry, known)
        live, newest = await trio.to_thread.run_sync(read_past_run, stored, registry)
        engine = Engine(registry)
        restored = restore(engine, live, newest, clock.now_ms())
        log_event(
            log,
            logging.INFO,
            "universe",
            symbols=len(registry.symbols),
            series=registry.capacity,
            restored=restored,
        )
        return engine, listing


async def run_unless(event: trio.Event, fn: Callable[[], Awaitable[T]]) -> T | None:
    """Return what ``fn`` returns, or None as soon as ``event`` is set."""
    result: T | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        result = await fn()
        nursery.cancel_scope.cancel()
    return result


async def run_parts(parts: Parts, stop: trio.Event) -> None:
    """Run everything until ``stop``, then end it from the feed outwards.

    Raises:
        GaveUp: A part kept failing.
        StoreError: A database that was away at the start has come, and cannot be used.

    Cancellation: ends it as ``stop`` does, but without draining the actors; what they had not
    folded shows as a hole at the next start.
    """
    try:
        async with trio.open_nursery() as outer:
            _supervise(outer, parts, "persister", parts.persister.run, (StoreError,))
            _supervise(outer, parts, "spool", parts.persister.run_spool)
            _supervise(outer, parts, "shelf", parts.shelf.run)
            # Not supervised: it insists by itself, and what it raises ends the run.
            outer.start_soon(parts.hold.run, parts.persister.spool, parts.engine.registry)
            async with trio.open_nursery() as swapping:
                _supervise(swapping, parts, "swapper", parts.swapper.run)
                async with trio.open_nursery() as acting:
                    acting.start_soon(parts.engine.run_actors)
                    await _run_feed_side(parts, stop)
                    with trio.move_on_after(DRAIN_GRACE_S) as drain:
                        await parts.engine.shut_down()
                    acting.cancel_scope.deadline = drain.deadline
                swapping.cancel_scope.cancel()
            outer.cancel_scope.cancel()
    finally:
        await _finish(parts)  # noqa: ASYNC102  (shields and bounds itself)


async def _run_feed_side(parts: Parts, stop: trio.Event) -> None:
    """Run what talks to the exchange, until ``stop``."""
    async with trio.open_nursery() as nursery:
        sync = partial(run_clock_sync, parts.clock, parts.rest.server_time)
        _supervise(nursery, parts, "clock", sync, _EXCHANGE_TROUBLE)
        _supervise(nursery, parts, "repair", parts.repair.run)
        _supervise(nursery, parts, "watch", parts.watch.run)
        _supervise(nursery, parts, "audit", parts.auditor.run)
        _supervise(nursery, parts, "history", parts.keeper.run, (*_EXCHANGE_TROUBLE, StoreError))
        _supervise(nursery, parts, "statistics", partial(run_statistics, parts))
        nursery.start_soon(run_feed, parts.links, parts.feed)
        await stop.wait()
        log_event(log, logging.INFO, "stopping")
        nursery.cancel_scope.cancel()


def _supervise(
    nursery: trio.Nursery,
    parts: Parts,
    name: str,
    fn: Callable[[], Awaitable[None]],
    again: tuple[type[Exception], ...] = (),
) -> None:
    nursery.start_soon(partial(supervise, fn, state=parts.supervision(name), again=again))


async def _finish(parts: Parts) -> None:
    """The last swap and the last flush; bounded, so that a dead disk cannot hold the exit."""
    with trio.move_on_after(FLUSH_GRACE_S, shield=True) as grace:
        try:
            parts.swapper.tick()
            whole = await parts.persister.finish(DATABASE_GRACE_S)
        except StoreError as error:
            waiting = len(parts.persister.pending)
            log_event(log, logging.ERROR, "not_flushed", cause=error, closed_bars=waiting)
            raise
        if not whole:
            facts = {"cause": parts.persister.counts.last_error or "the database took too long"}
            waiting = parts.persister.spool.bars
            log_event(log, logging.WARNING, "left_in_spool", closed_bars=waiting, **facts)
    if grace.cancelled_caught:
        log_event(log, logging.ERROR, "not_flushed", cause="database and spool took too long")
    log_event(log, logging.INFO, "stopped")


async def _close(close: Callable[[], None]) -> None:
    """Close a database within its grace; one that hangs is left to the end of the process."""
    with trio.move_on_after(CLOSE_GRACE_S, shield=True):
        await trio.to_thread.run_sync(close, abandon_on_cancel=True)
