"""Whoever comes back is told all that was missed, once, however bars close meanwhile."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from klinetrio.api import resume as resume_module
from klinetrio.api.hub import PushHub
from klinetrio.api.names import OpenMarket
from klinetrio.api.resume import Resumer
from klinetrio.domain.kline import OPEN_TIME, is_final, revision_of
from klinetrio.errors import StoreError
from tests.api.daemon import ask, connected, hear, running
from tests.api.memory_market import MINUTE_MS, START, MemoryMarket, with_minutes
from tests.api.wire import payloads


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.ports import Row

BTC_1M = {"symbol": "BTC_USDT", "interval": "1m"}
PAGE = 4


class SlowMarket(MemoryMarket):
    """Reads take as long as the test says, and show one moment: of their beginning or their end."""

    def __init__(self) -> None:
        super().__init__()
        self.is_early = True
        self.is_reading = False
        self.answered = trio.Event()

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Row]:
        """Return bars, once the test lets it."""
        early = await super().klines(row, start=start, end=end, limit=limit)
        self.is_reading = True
        await self.answered.wait()
        self.is_reading = False
        self.answered = trio.Event()
        late = await super().klines(row, start=start, end=end, limit=limit)
        return early if self.is_early else late


steps = st.lists(
    st.sampled_from(["trade", "close", "correct", "swap", "swap", "answer", "answer", "take"]),
    min_size=10,
    max_size=60,
)


@given(plan=steps, before=st.integers(0, 11), since=st.integers(0, 11), is_early=st.booleans())
@settings(max_examples=150, deadline=None)
async def test_no_hole_and_no_double(
    plan: list[str], before: int, since: int, is_early: bool
) -> None:
    """I1, I2: bars close and are corrected before, between and while pages are read."""
    resume_module_page, resume_module.PAGE_BARS = resume_module.PAGE_BARS, PAGE
    try:
        market, told = await follow(plan, before, START + since * MINUTE_MS, is_early)
    finally:
        resume_module.PAGE_BARS = resume_module_page

    start = START + since * MINUTE_MS
    finals: dict[int, list[int]] = defaultdict(list)
    opens = []
    for bar in told:
        if bar["is_final"]:
            finals[bar["open_time"]].append(bar["revision"])
        else:
            opens.append(bar["open_time"])
            assert all(open_time < bar["open_time"] for open_time in finals)
    bars = await MemoryMarket.klines(market, 0, start=start, end=None, limit=10_000)
    due = {bar[OPEN_TIME]: bar for bar in bars if is_final(bar)}
    assert list(due) == [open_time for open_time in finals if open_time >= start]
    assert all(revisions == sorted(set(revisions)) for revisions in finals.values())
    assert all(finals[time][-1] == revision_of(bar) for time, bar in due.items())
    assert opens == sorted(opens)
    assert opens[-1] == market.live_row(0)[OPEN_TIME]


async def follow(
    plan: list[str], before: int, since: int, is_early: bool
) -> tuple[MemoryMarket, list[dict[str, Any]]]:
    """Resume from ``since`` while the plan is carried out; return all that was told."""
    market = SlowMarket()
    market.is_early = is_early
    for _ in range(before):
        market.trade(0)
        market.close(0)
    market.trade(0)
    hub = PushHub(lambda: market)
    hub.publish(market.swap())
    client, topic = hub.join(), hub.native.of_row(0)
    told: list[dict[str, Any]] = []
    resumer = Resumer(OpenMarket(lambda: market), hub)

    def take() -> None:
        batch = payloads(client.outbox.take_batch())
        told.extend(orjson.loads(payload)["data"] for payload in batch)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            hub.subscribe(client, [topic])
            resumer.begin(client, {topic: since})
            nursery.start_soon(resumer.run, client, [topic], {})
            for step in [*plan, "swap"]:
                await carry_out(step, market, hub)
                if step == "take":
                    take()
            while not all(each.is_over for each in client.resuming.values()):
                await wait_all_tasks_blocked()
                market.answered.set()
                take()
        hub.publish(market.swap())
        while client.outbox.has_work:
            take()
    assert hub.statistics().pending == 0
    return market, told


async def carry_out(step: str, market: SlowMarket, hub: PushHub) -> None:
    """Carry out one step of a plan."""
    if step == "trade":
        market.trade(0)
    elif step == "close":
        market.close(0)
    elif step == "correct" and market.has_closed(0):
        market.correct(0)
    elif step == "swap":
        hub.publish(market.swap())
    elif step == "answer":
        await wait_all_tasks_blocked()
        if market.is_reading:
            market.answered.set()
            await wait_all_tasks_blocked()


async def test_missed_bars_come_first_then_the_open_one() -> None:
    """Over a socket: the reply, the bars from ``since`` on, the open one, and what happens next."""
    async with (
        running(with_minutes(5)) as daemon,
        connected(daemon, "/api/v1/ws") as client,
    ):
        since = START + 2 * MINUTE_MS
        command = {"op": "subscribe", "klines": [BTC_1M], "since": since, "id": 1}
        reply = await ask(client, command)
        assert reply == {"type": "subscribed", "klines": [BTC_1M], "id": 1}
        bars = [(await hear(client))["data"] for _ in range(4)]
        daemon.market.close(0)
        daemon.swap()
        bars.append((await hear(client))["data"])

    assert [since + number * MINUTE_MS for number in (0, 1, 2, 3, 3)] == [
        bar["open_time"] for bar in bars
    ]
    assert [True, True, True, False, True] == [bar["is_final"] for bar in bars]


async def test_each_series_may_have_its_own_beginning() -> None:
    """An object of open times; a series without one begins with its open bar."""
    async with (
        running(with_minutes(3)) as daemon,
        connected(daemon, "/api/v1/ws") as client,
    ):
        daemon.market.trade(1)
        daemon.swap()
        hour = {"symbol": "BTC_USDT", "interval": "1h"}
        since = {"btcusdt@1m": START + 2 * MINUTE_MS}
        await ask(client, {"op": "subscribe", "klines": [BTC_1M, hour], "since": since})
        bars = [(await hear(client))["data"] for _ in range(3)]

    told = sorted((bar["interval"], bar["is_final"]) for bar in bars)
    assert told == [("1h", False), ("1m", False), ("1m", True)]


async def test_past_that_cannot_be_read_is_told_and_not_followed() -> None:
    """Half a past would be a hole: the client is told which series it has to ask for again."""
    market = with_minutes(3)
    market.failure = StoreError("gone")
    async with running(market) as daemon, connected(daemon, "/api/v1/ws") as client:
        await ask(client, {"op": "subscribe", "klines": [BTC_1M], "since": START, "id": "x"})
        error = await hear(client)

        assert error["error"]["code"] == "store_unavailable"
        assert (error["klines"], error["id"]) == ([BTC_1M], "x")
        assert daemon.hub.statistics().subscriptions == 0


MISTAKES: list[tuple[Any, str]] = [
    ("now", "bad_message"),
    (1.5, "bad_message"),
    (-1, "bad_message"),
    (True, "bad_message"),
    (10**18, "bad_message"),
    ({"BTC_USDT@1m": "x"}, "bad_message"),
    ({"BTC_USDT@1h": START}, "bad_message"),
    ({"NO_SUCH@1m": START}, "unknown_symbol"),
    ({"BTC_USDT": START}, "unknown_symbol"),
    (0, "too_many_bars"),
]


@pytest.mark.parametrize(("since", "code"), MISTAKES)
async def test_mistaken_since_subscribes_nothing(since: Any, code: str) -> None:
    """A command is carried out as a whole or not at all."""
    async with running(with_minutes(3)) as daemon, connected(daemon, "/api/v1/ws") as client:
        reply = await ask(client, {"op": "subscribe", "klines": [BTC_1M], "since": since})

        assert ("error", code) == (reply["type"], reply["error"]["code"])
        assert daemon.hub.statistics().subscriptions == 0


async def test_long_past_waits_for_a_slow_client() -> None:
    """I3: no page is read while the client has not taken those before."""
    count = 5 * resume_module.PAGE_BARS
    market = with_minutes(count)
    hub = PushHub(lambda: market)
    client, topic = hub.join(), hub.native.of_row(0)
    resumer = Resumer(OpenMarket(lambda: market), hub)
    hub.subscribe(client, [topic])
    resumer.begin(client, {topic: START})
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resumer.run, client, [topic], {})
            taken = 0
            while taken < count:
                await wait_all_tasks_blocked()
                assert 0 < client.outbox.queued <= 2 * resume_module.PAGE_BARS
                taken += len(payloads(client.outbox.take_batch()))


async def test_unsubscribing_ends_a_resumption() -> None:
    """What is no longer followed is not read any more."""
    market = with_minutes(5 * resume_module.PAGE_BARS)
    hub = PushHub(lambda: market)
    client, topic = hub.join(), hub.native.of_row(0)
    resumer = Resumer(OpenMarket(lambda: market), hub)
    hub.subscribe(client, [topic])
    resumer.begin(client, {topic: START})
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resumer.run, client, [topic], {})
            await wait_all_tasks_blocked()
            hub.unsubscribe(client, [topic])

    assert not client.outbox.has_work


async def test_the_past_is_told_once_it_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before the symbol is seeded, nor with a hole that the history download fills."""
    monkeypatch.setattr(resume_module, "PAUSE_S", 0.01)
    market = MemoryMarket()
    for _ in range(4):
        market.trade(0)
        market.close(0)
    market.trade(0)
    missing = market.take_away(0, START + MINUTE_MS)
    market.unseeded = {0}
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, "/api/v1/ws") as client:
            message = {"op": "subscribe", "klines": [BTC_1M], "since": START}
            answer = await ask(client, message)
            assert answer["type"] == "subscribed", answer
            with trio.move_on_after(0.1) as silence:
                await hear(client)
            market.unseeded.clear()
            with trio.move_on_after(0.1) as silence_again:
                await hear(client)
            market.put_back(0, missing)
            told = [(await hear(client))["data"]["open_time"] for _ in range(5)]

    assert silence.cancelled_caught
    assert silence_again.cancelled_caught
    assert told == [START + number * MINUTE_MS for number in range(5)]


async def test_a_hole_that_stays_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange has no bars there."""
    monkeypatch.setattr(resume_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(resume_module, "HOLE_PATIENCE_S", 0.05)
    market = MemoryMarket()
    for _ in range(3):
        market.trade(0)
        market.close(0)
    market.trade(0)
    market.take_away(0, START + MINUTE_MS)
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, "/api/v1/ws") as client:
            await ask(client, {"op": "subscribe", "klines": [BTC_1M], "since": START})
            told = [(await hear(client))["data"]["open_time"] for _ in range(3)]
    assert told == [START, START + 2 * MINUTE_MS, START + 3 * MINUTE_MS]


async def test_a_past_that_never_comes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told which series to ask for again."""
    monkeypatch.setattr(resume_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(resume_module, "SEED_PATIENCE_S", 0.05)
    market = MemoryMarket()
    market.unseeded = {0}
    market.trade(0)
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, "/api/v1/ws") as client:
            await ask(client, {"op": "subscribe", "klines": [BTC_1M], "since": START})
            error = await hear(client)
    assert (error["type"], error["error"]["code"]) == ("error", "not_ready")
    assert error["klines"] == [BTC_1M]
