"""The REST interface as a client sees it: a real server on loopback, a real HTTP client."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from klinetrio.api import pages
from klinetrio.api.answers import BARS_PER_STEP, Document
from klinetrio.api.app import create_app, run_api
from klinetrio.api.hub import PushHub
from klinetrio.api.pages import KlinePages
from klinetrio.api.selection import parse_klines_query
from klinetrio.domain.interval import MINUTE
from klinetrio.errors import StoreError
from klinetrio.formats.encoder import make_encoder
from klinetrio.httpd import open_listener
from tests.api.memory_market import START, MemoryMarket, with_minutes
from tests.api.wire import ask, request, serving


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT_S = 60.0


@asynccontextmanager
async def client_of(market: MemoryMarket | None) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve ``market``; yield a client of it."""
    hub = PushHub(lambda: market)
    with trio.fail_after(LIMIT_S):
        async with (
            serving(create_app(lambda: market, hub, trio.Event())) as served,
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{served.port}", trust_env=False
            ) as client,
        ):
            yield client


def opens(klines: list[dict[str, Any]]) -> list[int]:
    """Return the bars' numbers, counted in minutes from the start."""
    return [(kline["open_time"] - START) // MINUTE for kline in klines]


async def test_kline_has_the_promised_form() -> None:
    """Names, types and decimals of interface v1."""
    async with client_of(with_minutes(1)) as client:
        reply = await client.get("/api/v1/klines?symbol=btcusdt&interval=1m&limit=2")

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()[0] == {
        "symbol": "BTC_USDT",
        "interval": "1m",
        "open_time": START,
        "close_time": START + 59_999,
        "open": "1.00",
        "high": "1.00",
        "low": "1.00",
        "close": "1.00",
        "volume": "0.001",
        "quote_volume": "0.00100",
        "trade_count": 1,
        "taker_buy_volume": "0.000",
        "taker_buy_quote_volume": "0.00000",
        "is_final": True,
        "is_complete": False,
        "origin": "live",
        "revision": 0,
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", list(range(21, 121))),
        ("&limit=3", [118, 119, 120]),
        ("&limit=1500", list(range(121))),
        (f"&limit=2&start_time={START}", [0, 1]),
        (f"&limit=2&start_time={START + 1}", [1, 2]),
        (f"&limit=2&end_time={START + 5 * MINUTE}", [4, 5]),
        (f"&limit=2&end_time={START + 5 * MINUTE - 1}", [3, 4]),
        (f"&start_time={START + MINUTE}&end_time={START + 3 * MINUTE}", [1, 2, 3]),
        (f"&start_time={START}&end_time={START}", [0]),
        (f"&end_time={START - 1}", []),
        ("&start_time=253402300799999", []),
    ],
)
async def test_klines_are_selected_by_open_time(query: str, expected: list[int]) -> None:
    """Inclusive at both ends; with a start the first ones, else the last ones; ascending."""
    async with client_of(with_minutes(120)) as client:
        reply = await client.get(f"/api/v1/klines?symbol=BTC_USDT&interval=1m{query}")

    assert expected == opens(reply.json())


GOOD = "symbol=BTC_USDT&interval=1m"


@pytest.mark.parametrize(
    ("target", "status", "code", "words"),
    [
        ("/api/v1/klines", 400, "missing_parameter", "symbol: expected"),
        ("/api/v1/klines?", 400, "missing_parameter", "symbol: expected"),
        ("/api/v1/klines?symbol=BTCUSDT", 400, "missing_parameter", "interval: expected"),
        ("/api/v1/klines?symbol=NOPE&interval=1m", 404, "unknown_symbol", "was 'NOPE'"),
        ("/api/v1/klines?symbol=&interval=1m", 404, "unknown_symbol", "was ''"),
        (
            "/api/v1/klines?symbol=BTCUSDT&interval=2m",
            404,
            "unknown_interval",
            "1m 1h 1M, was '2m'",
        ),
        (f"/api/v1/klines?{GOOD}&limit=0", 400, "bad_parameter", "from 1 to 1500, was '0'"),
        (f"/api/v1/klines?{GOOD}&limit=1501", 400, "bad_parameter", "was '1501'"),
        (f"/api/v1/klines?{GOOD}&limit=", 400, "bad_parameter", "limit: expected"),
        (f"/api/v1/klines?{GOOD}&limit=1e3", 400, "bad_parameter", "was '1e3'"),
        (f"/api/v1/klines?{GOOD}&limit=%D9%A1", 400, "bad_parameter", "limit: expected"),
        (f"/api/v1/klines?{GOOD}&start_time=-1", 400, "bad_parameter", "start_time: expected"),
        (f"/api/v1/klines?{GOOD}&end_time=1.5", 400, "bad_parameter", "end_time: expected"),
        (f"/api/v1/klines?{GOOD}&end_time={'9' * 500}", 400, "bad_parameter", "..."),
        (
            f"/api/v1/klines?{GOOD}&start_time=2&end_time=1",
            400,
            "bad_parameter",
            "at most end_time",
        ),
        (f"/api/v1/klines?{GOOD}&startTime=1", 400, "unknown_parameter", "was 'startTime'"),
        (
            f"/api/v1/klines?{GOOD}&limit=1&limit=1",
            400,
            "repeated_parameter",
            "limit: expected once",
        ),
        (f"/api/v1/klines?{GOOD}&limit", 400, "bad_parameter", "name=value"),
        ("/api/v1/klines?symbol=%FF&interval=1m", 400, "bad_parameter", "UTF-8"),
        (f"/api/v1/klines?{'x' * 3000}", 414, "query_too_long", "2048 bytes"),
        ("/api/v1/symbols?symbol=BTCUSDT", 400, "unknown_parameter", "no parameters"),
        ("/api/v1/nothing", 404, "not_found", ""),
        ("/api//v1/klines", 404, "not_found", ""),
        ("/api/v1/klines/", 404, "not_found", ""),
        ("/api/v1/ws", 400, "bad_request", ""),
    ],
)
async def test_faulty_request_is_told_what_was_expected(
    target: str, status: int, code: str, words: str
) -> None:
    """One form for all errors: a status, a code for programs, a message for people."""
    with trio.fail_after(LIMIT_S):
        market = with_minutes(1)
        app = create_app(lambda: market, PushHub(lambda: market), trio.Event())
        async with serving(app) as served:
            raw = await ask(served, request(target, headers="Connection: close\r\n"))
    reply = httpx2.Response(int(raw[9:12]), content=raw.partition(b"\r\n\r\n")[2])

    assert reply.status_code == status
    error = reply.json()["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert len(error["message"]) < 250


async def test_symbols_and_intervals_are_listed() -> None:
    """Everything a client needs to ask for klines and to read their numbers."""
    async with client_of(MemoryMarket()) as client:
        symbols = (await client.get("/api/v1/symbols")).json()
        intervals = (await client.get("/api/v1/intervals")).json()

    assert symbols[2] == {
        "symbol": "币安人生_USDT",
        "exchange_symbol": "币安人生USDT",
        "base": "币安人生",
        "quote": "USDT",
        "price_decimals": 5,
        "quantity_decimals": 0,
        "quote_decimals": 5,
        "listing_time": 1_760_000_000_000,
    }
    assert intervals == [
        {"interval": "1m", "length_ms": 60_000},
        {"interval": "1h", "length_ms": 3_600_000},
        {"interval": "1M", "length_ms": None},
    ]


async def test_symbol_beyond_ascii_is_found() -> None:
    """Percent-encoded UTF-8 in the query."""
    async with client_of(with_minutes(1, row=6)) as client:
        reply = await client.get(
            "/api/v1/klines", params={"symbol": "币安人生_usdt", "interval": "1m"}
        )

    assert reply.json()[0]["symbol"] == "币安人生_USDT"


async def test_everything_but_health_waits_for_the_market() -> None:
    """While the daemon starts it says so, and when to ask again."""
    async with client_of(None) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        for path in ("/api/v1/klines", "/api/v1/status", "/readyz", "/metrics", "/nothing"):
            reply = await client.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "starting")
            assert reply.headers["retry-after"] == "1"


async def test_readiness_names_its_reasons() -> None:
    """Ready or not, and why not."""
    market = MemoryMarket()
    async with client_of(market) as client:
        ready = await client.get("/readyz")
        market.reasons = ["3 symbols are seeding", "the database is away"]
        unready = await client.get("/readyz")

    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert unready.status_code == 503
    assert unready.json()["reasons"] == market.reasons
    assert unready.json()["error"]["code"] == "not_ready"


async def test_status_shows_market_and_push() -> None:
    """The market's own account, and the hub's beside it."""
    async with client_of(MemoryMarket()) as client:
        status = (await client.get("/api/v1/status")).json()

    assert status["version"] == "test"
    assert status["push"]["clients"] == 0


async def test_the_audit_is_shown_by_symbol() -> None:
    """And takes no parameters."""
    async with client_of(MemoryMarket()) as client:
        assert (await client.get("/api/v1/audit")).json() == [{"symbol": "BTC_USDT", "compared": 1}]
        refused = await client.get("/api/v1/audit?symbol=BTC_USDT")
    assert refused.status_code == 400


@pytest.mark.parametrize("count", [1, 500])
@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_metrics_are_prometheus_text(count: int, accept: str) -> None:
    """Few or many, in the format that was asked for."""
    market = MemoryMarket()
    market.metric_count = count
    async with client_of(market) as client:
        reply = await client.get("/metrics", headers={"Accept": accept})

    assert reply.text.count("# TYPE klinetrio_test_") == count
    assert 'klinetrio_push_messages_total{kind="final"} 0.0' in reply.text
    assert ("openmetrics" in reply.headers["content-type"]) == bool(accept)


async def test_failing_database_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that fails or hangs is not the client's fault and not a bug."""
    monkeypatch.setattr(pages, "QUERY_TIMEOUT_S", 0.05)
    market = with_minutes(1)
    async with client_of(market) as client:
        market.failure = StoreError("password=secret")
        failed = await client.get(f"/api/v1/klines?{GOOD}")
        market.delay_s = LIMIT_S
        hung = await client.get(f"/api/v1/klines?{GOOD}")

    for reply in (failed, hung):
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "store_unavailable")
        assert "secret" not in reply.text


async def test_bug_is_500_without_a_word_about_it(caplog: pytest.LogCaptureFixture) -> None:
    """The log has it all, the client nothing of it."""
    market = with_minutes(1)
    market.failure = ValueError("internal detail")
    with caplog.at_level(logging.ERROR):
        async with client_of(market) as client:
            replies = [await client.get(f"/api/v1/klines?{GOOD}") for _ in range(3)]

    assert [reply.status_code for reply in replies] == [500] * 3
    assert replies[0].json()["error"]["code"] == "internal"
    assert "detail" not in replies[0].text
    (record,) = caplog.records
    assert "/api/v1/klines failed" in record.getMessage()
    assert record.exc_info is not None


async def test_other_methods() -> None:
    """HEAD is GET without the body; others are told what is allowed."""
    async with client_of(with_minutes(1)) as client:
        head = await client.head(f"/api/v1/klines?{GOOD}")
        options = await client.options("/api/v1/klines")
        post = await client.post("/api/v1/klines", content=b"x" * 10_000)

    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 100
    assert "GET" in options.headers["allow"]
    assert (post.status_code, post.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in post.headers["allow"]


async def test_pages_of_others_may_read() -> None:
    """Public data: any origin, never cached, errors included."""
    async with client_of(with_minutes(1)) as client:
        for path in (f"/api/v1/klines?{GOOD}", "/api/v1/klines", "/nothing"):
            reply = await client.get(path, headers={"Origin": "https://example.com"})
            assert reply.headers["access-control-allow-origin"] == "*"
            assert reply.headers["cache-control"] == "no-store"


async def test_long_answers_let_others_run() -> None:
    """The longest replies are made in steps, one at a time, so that trades wait for none longer."""
    market = with_minutes(1500)
    catalog = PushHub(lambda: market)._opened.catalog
    query = parse_klines_query(f"{GOOD}&limit=1500".encode(), catalog)
    turn = trio.Lock()
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            steps += 1
            await trio.lowlevel.checkpoint()

    async def answer() -> None:
        series = [catalog.series(0)]
        encoder = make_encoder("json", series)
        document = Document(KlinePages(market, query), encoder, {0: series[0]}, turn)
        assert (await document.whole()).count(b"open_time") == 1500

    async with trio.open_nursery() as counting:
        counting.start_soon(count)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(answer)
        counting.cancel_scope.cancel()

    assert steps >= 4 * 1500 / BARS_PER_STEP - 1


async def test_api_can_be_run_again() -> None:
    """After a failure the next run has a new app on the same listener."""
    market = MemoryMarket()
    hub = PushHub(lambda: market)
    with trio.fail_after(LIMIT_S), open_listener("127.0.0.1:0") as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/healthz"
        for _ in range(2):
            shutdown = trio.Event()

            async def run(task_status: trio.TaskStatus[None], end: trio.Event = shutdown) -> None:
                await run_api(
                    lambda: create_app(lambda: market, hub, end),
                    listener,
                    shutdown=end,
                    task_status=task_status,
                )

            async with trio.open_nursery() as nursery:
                await nursery.start(run)
                async with httpx2.AsyncClient(trust_env=False) as client:
                    assert (await client.get(url)).status_code == 200
                shutdown.set()
