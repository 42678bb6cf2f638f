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
from klinetrio.api.hub import PushHub
from klinetrio.engine.engine import Engine
from klinetrio.engine.swapper import Swapper
from klinetrio.errors import DecodeError, ExchangeError, NetworkError, StoreError
from klinetrio.exchange.clock import ExchangeClock, run_clock_sync
from klinetrio.exchange.connection import FeedContext, FeedCounts
from klinetrio.exchange.dial import Dialer, parse_proxy
from klinetrio.exchange.feed import plan_feed, run_feed
from klinetrio.exchange.pacer import Pacer
from klinetrio.exchange.rest import BinanceRest, open_rest
from klinetrio.httpd import open_listener
from klinetrio.insist import insist
from klinetrio.logs import log_event
from klinetrio.market import LiveMarket
from klinetrio.parts import Parts
from klinetrio.recovery.auditor import Auditor
from klinetrio.recovery.download import HistoryDownload
from klinetrio.recovery.keeper import HistoryKeeper
from klinetrio.recovery.repair import RepairDesk
from klinetrio.recovery.watch import SilenceWatch
from klinetrio.start import learn_time, learn_universe, read_past_run, restore
from klinetrio.statistics import run_statistics
from klinetrio.storage.beside import claimed
from klinetrio.storage.history import History
from klinetrio.storage.past_bars import PastBars
from klinetrio.storage.persister import Persister
from klinetrio.storage.stores import open_store
from klinetrio.supervise import Supervision, supervise


if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from klinetrio.config import Config, Exchange
    from klinetrio.engine.publication import Publication
    from klinetrio.exchange.feed import SupervisedLink
    from klinetrio.storage.protocol import KlineStore

log = logging.getLogger("klinetrio.app")

# Bounds of the orderly shutdown, so that it always ends: actors have at most a full inbox each to
# work off, 1,000 * 256 trades in 4 s; a flush of all series takes well under a second.
DRAIN_GRACE_S = 10.0
FLUSH_GRACE_S = 20.0
API_GRACE_S = 5.0

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
        closing: Set by the daemon itself when only the interfaces are left to be closed.
    """

    config: Config
    clock: ExchangeClock | None = None
    ssl_context: ssl.SSLContext | None = None
    stop: trio.Event = attrs.field(factory=trio.Event)
    market: LiveMarket | None = None
    started: trio.Event = attrs.field(factory=trio.Event)
    address: str = ""
    closing: trio.Event = attrs.field(factory=trio.Event)

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
        database = open_store(self.config.storage.url)
        # First of all, and given up last: whoever is refused has served and written nothing.
        async with claimed(database), AsyncExitStack() as stack:
            listener = stack.enter_context(open_listener(self.config.api.bind))
            host, port = listener.getsockname()[:2]
            self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            hub = PushHub(lambda: self.market)
            async with trio.open_nursery() as api_nursery:
                api = await _start_api(self, hub, listener, api_nursery)
                log_event(log, logging.INFO, "serving", address=self.address, version=__version__)
                task_status.started(self.address)
                try:
                    await self._run_core(hub, api, database)
                finally:
                    self.closing.set()
                    api_nursery.cancel_scope.deadline = trio.current_time() + API_GRACE_S

    async def _run_core(self, hub: PushHub, api: Supervision, database: KlineStore) -> None:
        """Start, run and stop everything but the interfaces."""
        config, clock = self.config, self.clock or ExchangeClock()
        async with AsyncExitStack() as stack:
            await trio.to_thread.run_sync(database.open)
            stack.callback(database.close)
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
            prepare = partial(self._prepare, rest, clock, database)
            engine = await run_unless(self.stop, prepare)
            if engine is None:
                return
            parts = assemble(
                config=config,
                engine=engine,
                rest=rest,
                clock=clock,
                dialer=dialer,
                database=database,
                hub=hub,
            )
            parts.supervisions["api"] = api
            self.market = LiveMarket(parts)
            self.started.set()
            await run_parts(parts, self.stop)

    async def _prepare(
        self, rest: BinanceRest, clock: ExchangeClock, database: KlineStore
    ) -> Engine:
        """Return an engine that continues where the last run stopped."""
        await insist("exchange time", partial(learn_time, rest, clock))
        known = await trio.to_thread.run_sync(database.known_symbols)
        registry = await insist("universe", partial(learn_universe, self.config, rest, known))
        await trio.to_thread.run_sync(database.attach, registry)
        live, newest = await trio.to_thread.run_sync(read_past_run, database, registry)
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
        return engine


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


async def _start_api(
    daemon: Daemon, hub: PushHub, listener: socket.socket, nursery: trio.Nursery
) -> Supervision:
    """Serve the interfaces, restarted as often as it takes."""
    state = Supervision("api")
    make_app = partial(create_app, lambda: daemon.market, hub, daemon.closing)
    serve = partial(run_api, make_app, listener, shutdown=daemon.closing)
    nursery.start_soon(partial(supervise, serve, state=state))
    return state


def assemble(
    *,
    config: Config,
    engine: Engine,
    rest: BinanceRest,
    clock: ExchangeClock,
    dialer: Dialer,
    database: KlineStore,
    hub: PushHub,
) -> Parts:
    """Put the parts together around an engine; nothing runs yet."""
    persister = Persister(database, engine.store, config.storage.flush_interval_s)
    past = PastBars(database)
    repair = RepairDesk(engine, rest, clock, past)
    engine.on_trouble = repair.report

    def publish(publication: Publication) -> None:
        persister.take(publication)
        hub.publish(publication)

    swapper = Swapper(
        engine=engine,
        clock=clock,
        interval_ms=config.engine.swap_interval_ms,
        grace_ms=config.engine.close_grace_ms,
        publish=publish,
    )
    auditor = Auditor(
        engine,
        rest,
        clock,
        past,
        settle=config.audit.settle,
        weight_per_minute=config.audit.weight_per_minute,
    )
    download = HistoryDownload(past, engine.registry, rest)
    return Parts(
        config=config,
        clock=clock,
        rest=rest,
        engine=engine,
        links=plan_links(config.exchange, engine, repair, clock),
        feed=FeedContext(
            dialer, Pacer(config.exchange.connects_per_minute), clock, engine, FeedCounts()
        ),
        swapper=swapper,
        persister=persister,
        history=History(database, persister.pending, engine.store),
        repair=repair,
        watch=SilenceWatch(engine, repair),
        auditor=auditor,
        keeper=HistoryKeeper(download, engine, clock, config.history.since_ms),
        hub=hub,
    )


def plan_links(
    wanted: Exchange, engine: Engine, repair: RepairDesk, clock: ExchangeClock
) -> Sequence[SupervisedLink]:
    """Return the connections, which the repair desk has opened again where they are deaf."""
    together = wanted.streams_per_connection
    links = plan_feed(wanted.ws_url, engine.registry.symbols, together)

    def reopen_if_deaf(symbol_index: int, time_ms: int) -> bool:
        link = links[symbol_index // together].link
        return link.reopen_if_deaf(-clock.seconds_until(time_ms))

    repair.on_deaf = reopen_if_deaf
    return links


async def run_parts(parts: Parts, stop: trio.Event) -> None:
    """Run everything until ``stop``, then end it from the feed outwards.

    Raises:
        GaveUp: A part kept failing.

    Cancellation: ends it as ``stop`` does, but without draining the actors; what they had not
    folded shows as a hole at the next start.
    """
    try:
        async with trio.open_nursery() as outer:
            _supervise(outer, parts, "persister", parts.persister.run, (StoreError,))
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
            await parts.persister.flush()
        except StoreError as error:
            waiting = len(parts.persister.pending)
            log_event(log, logging.ERROR, "not_flushed", cause=error, closed_bars=waiting)
            raise
    if grace.cancelled_caught:
        log_event(log, logging.ERROR, "not_flushed", cause="the database took too long")
    log_event(log, logging.INFO, "stopped")
