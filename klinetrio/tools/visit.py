"""One look at a database: every series that is stored, or those that are asked for.

What a daemon has just changed may be seen half: whatever is found young beside one is looked at
again before it is told.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.interval import HOUR, INTERVALS, parse_intervals
from klinetrio.errors import ConfigError, ScalesChanged, StoreError
from klinetrio.tools.examination import FIRST_TIME, LAST_TIME, Diagnosis, examine
from klinetrio.tools.progress import Shown


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.storage.protocol import KlineStore

# Bars that are older hardly change: two hours is how long closed ones stay correctable.
_YOUNG_MS = 3 * HOUR


@attrs.frozen
class Order:
    """What is looked at.

    Attributes:
        symbols: By exchange or by public name; all that are stored if empty.
        intervals: By name; all that are stored if empty.
        since: First open time, UTC ms; None for the oldest.
        until: End, UTC ms, exclusive; None for the newest.
    """

    symbols: Sequence[str] = ()
    intervals: Sequence[str] = ()
    since: int | None = None
    until: int | None = None

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last open time."""
        first = FIRST_TIME if self.since is None else self.since
        return first, LAST_TIME if self.until is None else self.until - 1


class Visit:
    """One look at a database.

    Args:
        database: Open.
        order: What is looked at.

    Attributes:
        diagnoses: Of every series, as far as they could be read.
        damage: What is wrong with the database itself, and what helps, in words.
    """

    def __init__(self, database: KlineStore, order: Order) -> None:
        self.damage: list[str] = []
        self._database = database
        self._order = order
        self._by_symbol: dict[str, list[Diagnosis]] = {}
        self._expected = 0

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """What has been found, symbol by symbol."""
        return [each for name in sorted(self._by_symbol) for each in self._by_symbol[name]]

    def shown(self) -> Shown:
        """Return how far it is; the symbols that are left are taken for as long as the others."""
        done = sum(each.bars for each in self.diagnoses)
        symbols = len(self._by_symbol)
        facts = {"symbols": f"{symbols}/{self._expected}"}
        return Shown(done, done * self._expected // max(1, symbols), facts)

    async def run(self, pause_s: float) -> None:
        """Look at everything, and beside a daemon after a pause again at what is odd and young."""
        self.damage = await trio.to_thread.run_sync(self._database.damage)
        try:
            found = await trio.to_thread.run_sync(self._chosen)
        except StoreError as error:
            if not self.damage:
                raise
            self.damage.append(str(error))
            return
        self._expected = len(found)
        for symbol, intervals in found:
            await self._look(symbol, intervals)
        if await trio.to_thread.run_sync(self._database.is_claimed):
            again = [each for each in found if self._is_odd_and_young(each[0].name)]
            if again:
                await trio.sleep(pause_s)
            for symbol, intervals in again:
                await self._look(symbol, intervals)

    def _chosen(self) -> list[tuple[Symbol, Sequence[Interval]]]:
        """Return the symbols and intervals to look at.

        Raises:
            ConfigError: One is asked for that is not stored.
        """
        known = self._database.known_symbols()
        stored: dict[str, set[str]] = {}
        for name, interval in self._database.stored_series():
            stored.setdefault(name, set()).add(interval)
        names = [_find(each, [known[name] for name in stored]) for each in self._order.symbols]
        wanted = set(self._order.intervals)
        unknown = sorted(wanted - set(INTERVALS))
        if unknown:
            raise ConfigError("--intervals", ",".join(unknown), f"some of {','.join(INTERVALS)}")
        chosen: list[tuple[Symbol, Sequence[Interval]]] = []
        for name in names or sorted(stored):
            self._tell_of_foreign(name, stored[name] - set(INTERVALS))
            here = stored[name] & (wanted or set(INTERVALS))
            if here:
                chosen.append((known[name], parse_intervals(here)))
        return chosen

    def _tell_of_foreign(self, name: str, intervals: set[str]) -> None:
        for each in sorted(intervals):
            where = self._database.condition(name, each.replace("'", "''"))
            remedy = self._database.prompt(f"DELETE FROM klines WHERE {where}")  # noqa: S608
            self.damage.append(f"{name} has bars of the unknown interval {each!r}: {remedy}")

    async def _look(self, symbol: Symbol, intervals: Sequence[Interval]) -> None:
        look = partial(
            examine,
            self._database,
            symbol,
            intervals,
            span=self._order.span,
            now_ms=time.time_ns() // 1_000_000,
        )
        try:
            found = await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        except ScalesChanged:
            raise
        except StoreError as error:
            # A damaged page makes some bars unreadable; a database that is away, all of them.
            await trio.to_thread.run_sync(self._database.known_symbols)
            self.damage.append(f"{symbol.name}: {error}")
            found = []
        self._by_symbol[symbol.name] = found

    def _is_odd_and_young(self, name: str) -> bool:
        young = time.time_ns() // 1_000_000 - _YOUNG_MS
        return any(
            found.end > young
            for each in self._by_symbol[name]
            for kind, found in each.findings.items()
            if not kind.is_information
        )


def _find(name: str, symbols: Sequence[Symbol]) -> str:
    for each in symbols:
        if name.upper() in {each.name.upper(), each.public_name.upper()}:
            return each.name
    raise ConfigError("--symbols", name, "symbols that have bars in the database")
