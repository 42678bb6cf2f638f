"""Klines as a client gets them: formats, several symbols, cursors, and answers without end."""

from __future__ import annotations

import csv
import io
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pyarrow as pa
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from klinetrio.api import answers, negotiation, pages
from klinetrio.api.app import create_app
from klinetrio.api.hub import PushHub
from klinetrio.domain.interval import MINUTE
from klinetrio.errors import StoreError
from klinetrio.formats.series import COLUMNS
from tests.api.memory_market import START, MemoryMarket, with_minutes
from tests.api.wire import Served, ask, read_to_end, request, serving


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

LIMIT_S = 60.0
GOOD = "symbol=BTC_USDT&interval=1m"
KLINES = "/api/v1/klines"
ARROW = "application/vnd.apache.arrow.stream"


@asynccontextmanager
async def served(market: MemoryMarket) -> AsyncIterator[Served]:
    """Serve ``market``."""
    app = create_app(lambda: market, PushHub(lambda: market), trio.Event())
    with trio.fail_after(LIMIT_S):
        async with serving(app) as server:
            yield server


@asynccontextmanager
async def client_of(market: MemoryMarket) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve ``market``; yield a client of it."""
    async with served(market) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=LIMIT_S) as client:
            yield client


def minutes(klines: list[dict[str, Any]]) -> list[int]:
    """Return the bars' numbers, counted in minutes from the start."""
    return [(kline["open_time"] - START) // MINUTE for kline in klines]


def at(number: int) -> int:
    """Return the open time of a bar."""
    return START + number * MINUTE


class PagedMarket(MemoryMarket):
    """A market that tells how many pages were read, and fails or waits at one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = 0
        self.fails_at = self.waits_at = 10**9
        self.waiting = trio.Event()
        self.left = trio.Event()

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return a page, or not."""
        self.pages += 1
        if self.pages >= self.fails_at:
            raise StoreError("gone")
        if self.pages >= self.waits_at:
            self.waiting.set()
            try:
                await trio.sleep_forever()
            finally:
                self.left.set()
        return await super().klines(row, start=start, end=end, limit=limit)


def paged(count: int) -> PagedMarket:
    """Return a market with so many closed bars of one series, and an open one."""
    market = PagedMarket()
    for number in range(count):
        market.trade(0, 100 + number)
        market.close(0)
    market.swap()
    return market


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"before={at(5)}&limit=2", [3, 4]),
        (f"before={at(5) + 1}&limit=2", [4, 5]),
        ("before=0", []),
        (f"after={at(5)}&limit=2", [6, 7]),
        (f"after={at(5) - 1}&limit=2", [5, 6]),
        (f"after={at(5)}&end_time={at(7)}", [6, 7]),
        (f"after={at(20)}", []),
    ],
)
async def test_cursors_are_exclusive(query: str, expected: list[int]) -> None:
    """The last before, the first after; ascending in both cases."""
    async with client_of(with_minutes(20)) as client:
        reply = await client.get(f"{KLINES}?{GOOD}&{query}")

    assert expected == minutes(reply.json())


async def test_cursors_lead_through_everything() -> None:
    """In both directions, with the open time of the last bar that was seen."""
    async with client_of(with_minutes(20)) as client:
        forward: list[int] = []
        cursor = f"start_time={START}"
        while bars := (await client.get(f"{KLINES}?{GOOD}&limit=6&{cursor}")).json():
            forward += minutes(bars)
            cursor = f"after={bars[-1]['open_time']}"
        backward: list[int] = []
        cursor = f"before={at(21)}"
        while bars := (await client.get(f"{KLINES}?{GOOD}&limit=6&{cursor}")).json():
            backward[:0] = minutes(bars)
            cursor = f"before={bars[0]['open_time']}"

    assert list(range(21)) == forward == backward


@pytest.mark.parametrize(
    ("query", "status", "code", "words"),
    [
        (f"{GOOD}&before=5&start_time=1", 400, "contradictory_parameters", "without start_time"),
        (f"{GOOD}&before=5&end_time=1", 400, "contradictory_parameters", "without end_time"),
        (f"{GOOD}&before=5&after=1", 400, "contradictory_parameters", "before: expected without"),
        (f"{GOOD}&after=5&start_time=9", 400, "contradictory_parameters", "without start_time"),
        (f"{GOOD}&after=5&end_time=5", 400, "bad_parameter", "after: expected less than end_time"),
        (f"{GOOD}&before=-1", 400, "bad_parameter", "before: expected an integer from 0"),
        (f"{GOOD}&limit=all", 400, "missing_parameter", "expected start_time or after"),
        (f"{GOOD}&limit=all&before=5", 400, "missing_parameter", "start_time or after"),
        (f"{GOOD}&limit=ALL&start_time=0", 400, "bad_parameter", "expected all or an integer"),
        (f"{GOOD}&format=xml", 400, "bad_parameter", "one of json csv arrow, was 'xml'"),
        (f"{GOOD}&format=", 400, "bad_parameter", "one of json csv arrow, was ''"),
        ("symbol=BTC_USDT,NOPE&interval=1m", 404, "unknown_symbol", "was 'NOPE'"),
        ("symbol=BTC_USDT,&interval=1m", 404, "unknown_symbol", "was ''"),
        ("symbol=BTC_USDT,btcusdt&interval=1m", 400, "repeated_parameter", "each symbol once"),
        (f"symbol={'A,' * 50}A&interval=1m", 400, "bad_parameter", "at most 50 names"),
    ],
)
async def test_what_cannot_be_asked_is_told(query: str, status: int, code: str, words: str) -> None:
    """Nothing is ignored that was asked for."""
    async with client_of(with_minutes(1)) as client:
        reply = await client.get(f"{KLINES}?{query}")

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])
    assert words in reply.json()["error"]["message"]


async def test_several_symbols_come_in_the_order_asked_for() -> None:
    """One flat answer, ascending within each symbol, each up to the limit."""
    market = with_minutes(3)
    for number in range(5):
        market.trade(6, 100 + number)
        market.close(6)
    market.swap()
    async with client_of(market) as client:
        query = {"symbol": "币安人生_USDT,ETHUSDC,BTC_USDT", "interval": "1m", "limit": "3"}
        bars = (await client.get(KLINES, params=query)).json()

    assert ["币安人生_USDT"] * 3 + ["BTC_USDT"] * 3 == [bar["symbol"] for bar in bars]
    assert [3, 4, 5, 1, 2, 3] == minutes(bars)


@pytest.mark.parametrize("limit", ["7", "all"])
@pytest.mark.parametrize("by", ["format", "accept"])
async def test_every_format_says_the_same(
    limit: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or streamed, by parameter or header, of one symbol or of several scales."""
    monkeypatch.setattr(pages, "PAGE_BARS", 3)
    market = with_minutes(10)
    market.trade(6, 12345)
    market.swap()
    query = f"symbol=BTC_USDT,币安人生_USDT&interval=1m&start_time={START}&limit={limit}"
    got: dict[str, httpx2.Response] = {}
    async with client_of(market) as client:
        for name, media_type in (
            ("json", "application/json"),
            ("csv", "text/csv"),
            ("arrow", ARROW),
        ):
            target = f"{KLINES}?{query}&format={name}" if by == "format" else f"{KLINES}?{query}"
            headers = {"Accept": "*/*" if by == "format" else media_type}
            got[name] = await client.get(target, headers=headers)

    for name, media_type in (("json", "application/json"), ("csv", "text/csv"), ("arrow", ARROW)):
        assert got[name].status_code == 200
        assert got[name].headers["content-type"].startswith(media_type)
        assert got[name].headers["vary"] == "Accept"
        assert ("content-length" in got[name].headers) == (limit == "7")
    bars = got["json"].json()
    assert (8 if limit == "7" else 12) == len(bars)
    lines = list(csv.DictReader(io.StringIO(got["csv"].text)))
    assert [[str(value) for value in bar.values()] for bar in bars] == [
        [{"true": "True", "false": "False"}.get(cell, cell) for cell in line.values()]
        for line in lines
    ]
    table = pa.ipc.open_stream(got["arrow"].content).read_all()
    assert list(COLUMNS) == table.schema.names
    assert [bar["symbol"] for bar in bars] == table.column("symbol").to_pylist()
    assert [f"{float(bar['close']):.5f}" for bar in bars] == [
        str(each) for each in table.column("close").to_pylist()
    ]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.1, application/json;q=0.2", "application/json"),
        (f"{ARROW};q=0.9, text/csv;q=0.8", ARROW),
        ("*/*, application/json;q=0", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/csv;header=absent;q=0.9, application/json;q=0.1", "text/csv"),
    ],
)
async def test_qualities_are_heard(accept: str, expected: str) -> None:
    """The best of what a client accepts; JSON where it does not care."""
    async with client_of(with_minutes(1)) as client:
        reply = await client.get(f"{KLINES}?{GOOD}", headers={"Accept": accept})

    assert reply.headers["content-type"].startswith(expected)


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0", "nonsense", "*/*;q=0"])
async def test_what_nobody_can_make_is_406(accept: str) -> None:
    """It says what there is; a format that is named goes before the header."""
    async with client_of(with_minutes(1)) as client:
        reply = await client.get(f"{KLINES}?{GOOD}", headers={"Accept": accept})
        named = await client.get(f"{KLINES}?{GOOD}&format=csv", headers={"Accept": accept})

    assert (406, "not_acceptable") == (reply.status_code, reply.json()["error"]["code"])
    assert "text/csv" in reply.json()["error"]["message"]
    assert named.status_code == 200


async def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another format will do."""
    monkeypatch.setattr(negotiation, "has_arrow", lambda: False)
    async with client_of(with_minutes(1)) as client:
        named = await client.get(f"{KLINES}?{GOOD}&format=arrow")
        accepted = await client.get(f"{KLINES}?{GOOD}", headers={"Accept": ARROW})
        either = await client.get(
            f"{KLINES}?{GOOD}", headers={"Accept": f"{ARROW}, text/csv;q=0.1"}
        )

    assert (501, "format_unavailable") == (named.status_code, named.json()["error"]["code"])
    assert (406, "not_acceptable") == (accepted.status_code, accepted.json()["error"]["code"])
    for reply in (named, accepted):
        assert "pip install pyarrow" in reply.json()["error"]["message"]
    assert either.headers["content-type"].startswith("text/csv")


async def test_a_long_answer_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sees the beginning while the rest has not been read."""
    monkeypatch.setattr(pages, "PAGE_BARS", 10)
    market = paged(95)
    market.waits_at = 4
    async with served(market) as server, await server.connect() as stream:
        await stream.send_all(request(f"{KLINES}?{GOOD}&limit=all&start_time=0"))
        seen = b""
        while seen.count(b"open_time") < 30:
            seen += await stream.receive_some()
        await market.waiting.wait()

    assert b"transfer-encoding: chunked" in seen.lower()
    assert market.pages == 4


async def test_many_series_are_streamed_too() -> None:
    """What would be longer than one page is not kept whole."""
    async with client_of(with_minutes(30)) as client:
        query = "symbol=BTC_USDT,ETH_USDC&interval=1m&limit=1500"
        reply = await client.get(f"{KLINES}?{query}")

    assert reply.headers["transfer-encoding"] == "chunked"
    assert len(reply.json()) == 31


@pytest.mark.parametrize("name", ["json", "csv", "arrow"])
async def test_a_failure_in_the_middle_breaks_the_transfer_off(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a short answer that looks whole; and it is nobody's bug."""
    monkeypatch.setattr(pages, "PAGE_BARS", 10)
    market = paged(95)
    market.fails_at = 4
    with caplog.at_level(logging.WARNING):
        async with client_of(market) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(f"{KLINES}?{GOOD}&limit=all&start_time=0&format={name}")
            # And the next one is served.
            assert (await client.get("/healthz")).status_code == 200

    (record,) = caplog.records
    assert "reply broken off" in record.getMessage()
    assert record.exc_info is None


async def test_a_failure_at_the_first_page_has_a_status() -> None:
    """Nothing had been sent."""
    market = paged(5)
    market.fails_at = 1
    async with client_of(market) as client:
        reply = await client.get(f"{KLINES}?{GOOD}&limit=all&start_time=0")

    assert (503, "store_unavailable") == (reply.status_code, reply.json()["error"]["code"])


async def test_the_last_chunk_is_missing_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is how a client can tell."""
    monkeypatch.setattr(pages, "PAGE_BARS", 10)
    market = paged(25)
    target = f"{KLINES}?{GOOD}&limit=all&start_time=0&format=csv"
    async with served(market) as server:
        whole = await ask(server, request(target, headers="Connection: close\r\n"))
        market.fails_at = market.pages + 2
        broken = await ask(server, request(target))

    assert whole.endswith(b"0\r\n\r\n")
    assert broken.startswith(b"HTTP/1.1 200")
    assert broken.count(b"BTC_USDT") == 10
    assert not broken.endswith(b"0\r\n\r\n")


async def test_a_client_that_leaves_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that nobody waits for is not read on, and its place is free again."""
    monkeypatch.setattr(pages, "PAGE_BARS", 10)
    monkeypatch.setattr(answers, "MAX_STREAMS", 1)
    market = paged(95)
    market.waits_at = 3
    async with served(market) as server:
        async with await server.connect() as stream:
            await stream.send_all(request(f"{KLINES}?{GOOD}&limit=all&start_time=0"))
            await market.waiting.wait()
            target = f"{KLINES}?{GOOD}&limit=all&start_time=0"
            refused = await ask(server, request(target, headers="Connection: close\r\n"))
            assert b"too_many_streams" in refused
            assert b"503" in refused.partition(b"\r\n")[0]
        await market.left.wait()
        market.waits_at = 10**9
        while not (
            reply := await ask(
                server,
                request(
                    f"{KLINES}?{GOOD}&limit=all&start_time=0&format=csv",
                    headers="Connection: close\r\n",
                ),
            )
        ).endswith(b"0\r\n\r\n"):
            assert b"too_many_streams" in reply
    assert reply.count(b"BTC_USDT") == 96


async def test_a_stalled_reader_holds_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not read is not read for; who has read all has it all."""
    monkeypatch.setattr(pages, "PAGE_BARS", 400)
    market = paged(8_000)
    async with served(market) as server, await server.connect() as stream:
        await stream.send_all(
            request(f"{KLINES}?{GOOD}&limit=all&start_time=0", headers="Connection: close\r\n")
        )
        before = -1
        while market.pages > before:  # until the kernel's buffers are full
            before = market.pages
            await wait_all_tasks_blocked(0.05)
        assert before < 8_000 / 400
        assert (await read_to_end(stream)).count(b"open_time") == 8_001


async def test_head_of_a_long_answer_reads_nothing() -> None:
    """It has the headers only."""
    market = paged(5)
    async with client_of(market) as client:
        reply = await client.head(f"{KLINES}?{GOOD}&limit=all&start_time=0&format=csv")

    assert (200, b"", 0) == (reply.status_code, reply.content, market.pages)
    assert reply.headers["content-type"].startswith("text/csv")


async def test_http_1_0_is_told_that_it_cannot_have_a_stream() -> None:
    """The end of its connection would look like the end of the bars."""
    async with served(paged(5)) as server:
        old = request(f"{KLINES}?{GOOD}&limit=all&start_time=0").replace(b"HTTP/1.1", b"HTTP/1.0")
        refused = await ask(server, old)
        short = await ask(server, request(f"{KLINES}?{GOOD}").replace(b"HTTP/1.1", b"HTTP/1.0"))

    assert b"505" in refused.partition(b"\r\n")[0]
    assert b"expects HTTP/1.1" in refused
    assert b"200" in short.partition(b"\r\n")[0]
