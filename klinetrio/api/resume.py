"""Tells a client that comes back what it has missed, before what happens now.

Bars are read from the history page by page, while more of them close.  A page holds all bars that
were published before it was asked for; what is published of its series while it is being read is
kept, and joined with it.  What is published of bars that have been told goes straight to the
client, behind them; of bars that come with a later page it is dropped, as that page will hold it.
With the last page the client has everything, and follows like any other.

A page may be ahead of the last swap.  Bars that were closed since come with the next one; of
corrections that were made since, the next one's repetition is left out.

Invariants (tests/api/test_resume.py):
  I1  The first finals that a client gets are ascending, from ``since`` on, without a hole that the
      bars themselves do not have, and each revision of a bar comes once.
  I2  After the last page the client has the newest revision of every bar it was told.
  I3  One page of bars per client is in memory, and at most what waits in its outbox.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import attrs
import orjson
import trio

from klinetrio.api.pages import in_time
from klinetrio.api.problems import ApiError, quoted
from klinetrio.api.selection import MAX_TIME_MS
from klinetrio.domain.kline import OPEN_TIME, has_row, is_final, revision_of


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.api.client import Client
    from klinetrio.api.hub import PushHub
    from klinetrio.api.names import OpenMarket
    from klinetrio.api.ports import Row
    from klinetrio.api.topics import Message, Topic
    from klinetrio.domain.interval import Interval

# An hour of 1,000 symbols at 8 intervals is 80,000 bars.  All of them are 45 MB of text, a bar at a
# time; who has missed more fetches it by REST, in any form and at the speed of a stream.
MAX_RESUME_BARS = 100_000

# As numbers 0.6 KB each: 120 KB per client, 123 MB if a thousand come back at once.
PAGE_BARS = 200

# Told bars that may be published again: closed bars change for two hours, 120 bars of a minute.
KEPT_TOLD = 256

# Clients whose history is read at once; the others wait, as REST needs readers, too.
MAX_READS = 2

# A symbol's past may still be being fetched.  A cold start of hundreds of symbols takes longer for the
# last ones: their client is told to ask again.
SEED_PATIENCE_S = 300.0

# Bars that an outage has cost may be on their way from the exchange.  Some holes never close, as the
# exchange has no bars there.
HOLE_PATIENCE_S = 20.0
PAUSE_S = 0.5

# Commands of one client that may be under way.
MAX_RESUMES_PER_CLIENT = 8


class Resumption:
    """Where the past of one client's topic has got to.

    Args:
        since: The open time from which on bars are wanted.

    Attributes:
        cursor: The open time from which on bars have not been told yet.
        is_over: Everything has been told, and only repetitions are left out.
        patient_until: How long a hole is waited for.
    """

    def __init__(self, since: int) -> None:
        self.cursor = since
        self.is_over = False
        self.patient_until = 0.0
        self._told: dict[int, int] = {}
        self._is_reading = False
        self._kept: dict[int, Row] = {}

    def keeps(self, message: Message) -> bool:
        """Tell whether a closed bar that is published now is not to be sent now."""
        bar: Row = message.subject
        if self._told.get(bar[OPEN_TIME], -1) >= revision_of(bar):
            return True
        if self.is_over or bar[OPEN_TIME] < self.cursor:
            return False
        if self._is_reading:
            self._kept[bar[OPEN_TIME]] = bar
        return True

    def begin_page(self) -> None:
        """Keep what is published from now on."""
        self._is_reading = True
        self._kept.clear()

    def join_page(self, page: Sequence[Row], *, is_last: bool) -> list[Row]:
        """Return the closed bars to send for a page that was read; go on behind it."""
        bars = {bar[OPEN_TIME]: bar for bar in page if is_final(bar)}
        end = None if is_last else page[-1][OPEN_TIME]
        for open_time, bar in self._kept.items():
            other = bars.get(open_time)
            is_newer = other is None or revision_of(bar) > revision_of(other)
            if is_newer and (end is None or open_time <= end):
                bars[open_time] = bar
        self._is_reading = False
        self._kept.clear()
        ascending = [bars[open_time] for open_time in sorted(bars)]
        if end is not None:
            self.cursor = end + 1
        self.is_over = is_last
        for bar in ascending[-KEPT_TOLD:]:
            self._told[bar[OPEN_TIME]] = revision_of(bar)
        for open_time in list(self._told)[:-KEPT_TOLD]:
            del self._told[open_time]
        return ascending


@attrs.frozen
class Resumer:
    """Carries out the resumptions of all clients."""

    opened: OpenMarket
    hub: PushHub
    _reads: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(MAX_READS), init=False
    )

    def begin(self, client: Client, since: Mapping[Topic, int]) -> None:
        """Hold back what is new of topics that a client follows until ``run`` has told the past."""
        client.outbox.unmark(since)
        for topic, open_time in since.items():
            client.resuming[topic] = Resumption(open_time)

    async def run(self, client: Client, topics: Sequence[Topic], tag: Mapping[str, object]) -> None:
        """Tell the past of topics, one after the other.

        Args:
            client: Whose ``begin`` was just called.
            topics: Which of its topics.
            tag: Goes into the message that says that a past could not be read.

        Cancellation: between two pages; the client is leaving then.
        """
        mine = {topic: client.resuming[topic] for topic in topics}
        try:
            for topic, resumption in mine.items():
                await self._tell(client, topic, resumption)
        except ApiError as error:
            gone = [t for t, own in mine.items() if client.resuming.get(t) is own]
            self.hub.unsubscribe(client, gone)
            series = [self.opened.catalog.series_of(topic.index) for topic in gone]
            reply = {"type": "error", **error.to_dict(), "klines": series, **tag}
            client.outbox.put_reply(orjson.dumps(reply))

    async def _tell(self, client: Client, topic: Topic, resumption: Resumption) -> None:
        is_last = False
        await self._until_seeded(topic)
        resumption.patient_until = trio.current_time() + HOLE_PATIENCE_S
        while client.resuming.get(topic) is resumption and not is_last:
            await client.outbox.wait_queue(PAGE_BARS)
            page = await self._read(topic, resumption)
            if client.resuming.get(topic) is not resumption:
                return  # no longer wanted, or wanted anew
            is_last = len(page) < PAGE_BARS
            for bar in resumption.join_page(page, is_last=is_last):
                client.outbox.put(self.hub.live.event(topic, bar))
            if is_last:
                self.hub.settle(client, topic)
                client.outbox.put_changed(topic)

    async def _until_seeded(self, topic: Topic) -> None:
        """Wait until a symbol's past is here.

        Raises:
            ApiError: That takes too long.
        """
        market, symbol_index = self.opened.market, topic.index // len(self.opened.market.intervals)
        until = trio.current_time() + SEED_PATIENCE_S
        while not market.is_seeded(symbol_index):
            if trio.current_time() >= until:
                message = "the past of this symbol is still being fetched"
                raise ApiError(503, "not_ready", message, retry_after_s=10)
            await trio.sleep(PAUSE_S)

    async def _read(self, topic: Topic, resumption: Resumption) -> Sequence[Row]:
        """Return the next page, without holes if they close in time."""
        interval = self.opened.catalog.series(topic.index).interval
        while True:
            # As it was before: what closes during the reading is joined with the page.
            live = self.opened.market.live_row(topic.index)
            page = await self._read_once(topic, resumption)
            is_patient = trio.current_time() < resumption.patient_until
            if not (is_patient and _has_hole(page, live, interval)):
                return page
            await trio.sleep(PAUSE_S)

    async def _read_once(self, topic: Topic, resumption: Resumption) -> Sequence[Row]:
        """Return the next page: bars that were closed at the last swap."""
        async with self._reads:
            with in_time():
                resumption.begin_page()
                market = self.opened.market
                page = await market.klines(
                    topic.index, start=resumption.cursor, end=None, limit=PAGE_BARS
                )
        live = market.live_row(topic.index)
        return [bar for bar in page if not has_row(live) or bar[OPEN_TIME] < live[OPEN_TIME]]


def _has_hole(page: Sequence[Row], live: Row, interval: Interval) -> bool:
    """Tell whether a bar is missing between those of a page, or before the open one."""
    opens = [bar[OPEN_TIME] for bar in page]
    if len(page) < PAGE_BARS and has_row(live):
        opens.append(live[OPEN_TIME])
    return any(interval.next_open(one) < other for one, other in pairwise(opens))


def check_length(opened: OpenMarket, since: Mapping[Topic, int]) -> None:
    """Refuse what is too long to be told.

    Raises:
        ApiError: More than ``MAX_RESUME_BARS`` bars.
    """
    catalog, now = opened.catalog, opened.market.now_ms()
    bars = 0
    for topic, open_time in since.items():
        interval = catalog.series(topic.index).interval
        first = interval.ordinal(interval.open_of(min(open_time, now)))
        bars += interval.ordinal(interval.open_of(now)) - first
    if bars > MAX_RESUME_BARS:
        message = f"since: expected at most {MAX_RESUME_BARS} bars, was {bars}; REST has more"
        raise ApiError(400, "too_many_bars", message)


def open_time_of(value: object) -> int:
    """Return an open time as a client gave it.

    Raises:
        ApiError: It is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TIME_MS:
        return value
    raise ApiError(400, "bad_message", f"since: expected an open time in ms, was {quoted(value)}")
