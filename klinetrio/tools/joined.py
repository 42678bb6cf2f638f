"""What a tool needs that talks to the exchange and to the database: both, beside any daemon."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.moment import format_moment
from klinetrio.errors import ConfigError
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.dial import Dialer, parse_proxy
from klinetrio.exchange.rest import open_rest
from klinetrio.insist import insist
from klinetrio.start import learn_time, learn_universe
from klinetrio.storage.beside import join
from klinetrio.storage.stores import open_store


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from klinetrio.config import Config
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.storage.protocol import KlineStore


@attrs.frozen
class Joined:
    """The exchange and the database, open.

    Attributes:
        database: Knows the registry.
        registry: The symbols that the configuration selects, and its intervals.
        rest: The exchange.
        beside_daemon: Whether a daemon keeps the database.
    """

    database: KlineStore
    registry: SymbolPeriodRegistry
    rest: BinanceRest
    beside_daemon: bool

    def too_young(self, since: int, end: int) -> ConfigError:
        """Return the error that nothing between ``since`` and ``end``, UTC ms, can be looked at."""
        whose = ": younger bars are the running daemon's" if self.beside_daemon else ""
        expected = f"a time before {format_moment(end)}{whose}"
        return ConfigError("--since", format_moment(since), expected)


@asynccontextmanager
async def open_joined(config: Config, clock: ExchangeClock | None = None) -> AsyncIterator[Joined]:
    """Open both; what the exchange has to tell first is asked for until it does.

    Args:
        config: The configuration.
        clock: The exchange's clock; another than the default only for simulated exchanges.

    Raises:
        ConfigError: A symbol is not traded, and so on.
        StoreError: The database cannot be used.
        Refused: The exchange refuses whatever comes from here.
    """
    clock = clock or ExchangeClock()
    database = open_store(config.storage.url)
    await trio.to_thread.run_sync(database.open)
    try:
        dialer = Dialer(parse_proxy(config.proxy.url))
        share = config.exchange.weight_share
        url = config.exchange.rest_url
        async with open_rest(url, dialer, clock, weight_share=share) as rest:
            await insist("exchange time", partial(learn_time, rest, clock))
            known = await trio.to_thread.run_sync(database.known_symbols)
            registry, _ = await insist("universe", partial(learn_universe, config, rest, known))
            await trio.to_thread.run_sync(join, database, registry)
            claimed = await trio.to_thread.run_sync(database.is_claimed)
            yield Joined(database, registry, rest, claimed)
    finally:
        database.close()
