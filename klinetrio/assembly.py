"""The parts of a run, put together around an engine; nothing runs yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.engine.swapper import Swapper
from klinetrio.exchange.connection import FeedContext, FeedCounts
from klinetrio.exchange.feed import plan_feed
from klinetrio.exchange.pacer import Pacer
from klinetrio.parts import Parts
from klinetrio.recovery.auditor import Auditor
from klinetrio.recovery.download import HistoryDownload
from klinetrio.recovery.keeper import HistoryKeeper
from klinetrio.recovery.repair import RepairDesk
from klinetrio.recovery.shelf import PastShelf
from klinetrio.recovery.watch import SilenceWatch
from klinetrio.storage.history import History
from klinetrio.storage.past_bars import PastBars
from klinetrio.storage.persister import Persister
from klinetrio.storage.remembered import RememberedBars
from klinetrio.storage.stored import StoredBars


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from klinetrio.api.board import TickerBoard
    from klinetrio.api.hub import PushHub
    from klinetrio.config import Config, Exchange
    from klinetrio.domain.listing import Listing
    from klinetrio.engine.engine import Engine
    from klinetrio.engine.publication import Publication
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.dial import Dialer
    from klinetrio.exchange.feed import SupervisedLink
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.storage.hold import Hold
    from klinetrio.storage.spool import Spool


def assemble(
    *,
    config: Config,
    engine: Engine,
    listing: Listing,
    rest: BinanceRest,
    clock: ExchangeClock,
    dialer: Dialer,
    hold: Hold,
    spool: Spool,
    hub: PushHub,
    board: TickerBoard,
) -> Parts:
    """Return the parts."""
    database = hold.database
    persister = Persister(database, engine.store, config.storage.flush_interval_s, spool)
    past = PastBars(database)
    shelf = PastShelf(past)
    repair = RepairDesk(engine, rest, clock, shelf)
    engine.on_trouble = repair.report
    stored = StoredBars(database, spool)
    connects = Pacer(config.exchange.connects_per_minute)
    download = HistoryDownload(past, engine.registry, rest)
    return Parts(
        config=config,
        clock=clock,
        rest=rest,
        engine=engine,
        listing=listing,
        links=plan_links(config.exchange, engine, repair, clock),
        feed=FeedContext(dialer, connects, clock, engine, FeedCounts()),
        swapper=_swapper(config, engine, clock, (persister.take, hub.publish, board.publish)),
        persister=persister,
        history=History(stored, persister.pending, engine.store, RememberedBars(engine)),
        repair=repair,
        shelf=shelf,
        watch=SilenceWatch(engine, repair),
        auditor=_auditor(config, engine, rest, clock, past),
        keeper=HistoryKeeper(download, engine, clock, config.history.since_ms),
        hub=hub,
        hold=hold,
    )


def _swapper(
    config: Config,
    engine: Engine,
    clock: ExchangeClock,
    followers: Sequence[Callable[[Publication], None]],
) -> Swapper:
    def publish(publication: Publication) -> None:
        for follower in followers:
            follower(publication)

    return Swapper(
        engine=engine,
        clock=clock,
        interval_ms=config.engine.swap_interval_ms,
        grace_ms=config.engine.close_grace_ms,
        publish=publish,
    )


def _auditor(
    config: Config, engine: Engine, rest: BinanceRest, clock: ExchangeClock, past: PastBars
) -> Auditor:
    return Auditor(
        engine,
        rest,
        clock,
        past,
        settle=config.audit.settle,
        weight_per_minute=config.audit.weight_per_minute,
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
