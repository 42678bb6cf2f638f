"""TradingView's UDF as a charting front end sees it: a real server, a real HTTP client."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.api.names import Catalog, OpenMarket
from klinetrio.api.udf import history
from klinetrio.api.udf.history import HistoryAnswers, parse_history_query
from klinetrio.api.udf.resolutions import RESOLUTIONS, interval_name, resolution_of
from klinetrio.api.udf.symbols import search, symbol_info
from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.kline import CLOSE, HIGH, LOW, OPEN, VOLUME
from klinetrio.errors import StoreError
from tests.api.memory_market import START, SYMBOLS, MemoryMarket, with_minutes
from tests.api.test_rest import client_of


if TYPE_CHECKING:
    from collections.abc import Sequence

START_S = START // 1000


async def ask(market: MemoryMarket, query: str) -> dict[str, Any]:
    """Return the answer to a query of history, its numbers exactly as they were written."""
    opened = OpenMarket(lambda: market)
    body = await HistoryAnswers(opened).reply(parse_history_query(query.encode(), opened.catalog))
    answer: dict[str, Any] = json.loads(body, parse_float=Decimal)
    return answer


async def test_configuration_names_the_intervals_that_are_kept() -> None:
    """And what the feed can do beside that."""
    async with client_of(MemoryMarket(intervals=["1m", "4h", "1d", "1w"])) as client:
        config = (await client.get("/udf/config")).json()

    assert ["1", "240", "1D", "1W"] == config["supported_resolutions"]
    assert config["supports_search"]
    assert config["supports_time"]
    assert not config["supports_group_request"]


def test_every_interval_has_a_resolution_of_its_own() -> None:
    """And is found by it; days, weeks and months also without their number."""
    assert len(RESOLUTIONS) == len(INTERVALS)
    assert all(interval_name(resolution_of(each)) == each.name for each in INTERVALS.values())
    assert {"60": "1h", "1D": "1d", "3D": "3d", "1W": "1w", "1M": "1M"}.items() <= (
        RESOLUTIONS.items()
    )
    assert ("1d", "1w", "1M") == tuple(map(interval_name, "DWM"))


async def test_symbol_says_how_its_numbers_are_read() -> None:
    """Under its public name, the exchange's, and with the exchange before it."""
    async with client_of(MemoryMarket()) as client:
        for name in ("BTC_USDT", "btcusdt", "BINANCE:BTC_USDT"):
            info = (await client.get("/udf/symbols", params={"symbol": name})).json()
            assert ("BTC_USDT", "BTC_USDT") == (info["name"], info["ticker"])

    assert (100, 1, 3) == (info["pricescale"], info["minmov"], info["volume_precision"])
    assert ("24x7", "Etc/UTC", "crypto") == (info["session"], info["timezone"], info["type"])
    assert ["1", "60"] == info["intraday_multipliers"]
    assert "s" not in info  # by which front ends know an error


@pytest.mark.parametrize(
    ("intervals", "daily", "longer"),
    [
        (["1m", "1h"], False, False),
        (["1m", "1d", "1w"], True, False),
        (["1d", "3d", "1w", "1M"], True, True),
    ],
)
def test_symbol_claims_only_bars_that_can_be_asked_for(
    intervals: Sequence[str], daily: bool, longer: bool
) -> None:
    """A front end makes the others itself, or leaves them out."""
    info = symbol_info(Catalog(SYMBOLS, [INTERVALS[name] for name in intervals]), 0)

    assert daily is info["has_daily"]
    assert longer is info["has_weekly_and_monthly"]
    assert info["has_intraday"] is bool(info["intraday_multipliers"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["BTC_USDT", "ETH_USDC", "币安人生_USDT"]),
        ("usdt", ["BTC_USDT", "币安人生_USDT"]),
        ("eth/usdc", ["ETH_USDC"]),
        ("binance:eth", ["ETH_USDC"]),
        ("人生", ["币安人生_USDT"]),
        ("doge", []),
    ],
)
def test_symbols_are_found_by_any_part_of_their_name(query: str, expected: list[str]) -> None:
    """In any case, with or without what people write between base and quote."""
    catalog = Catalog(SYMBOLS, [INTERVALS["1m"]])

    assert expected == [each["symbol"] for each in search(catalog, query, 30)]


async def test_search_is_bounded_and_filtered() -> None:
    """By ``limit``, by type and by exchange; those that begin with the query come first."""
    async with client_of(MemoryMarket()) as client:
        first = (await client.get("/udf/search?query=&limit=1&type=&exchange=")).json()
        stocks = (await client.get("/udf/search?query=&type=stock")).json()
        elsewhere = (await client.get("/udf/search?query=&exchange=NYSE")).json()
        many = await client.get("/udf/search?query=&limit=1001")

    assert ["BTC_USDT"] == [each["ticker"] for each in first]
    assert [] == stocks == elsewhere
    assert (400, "error") == (many.status_code, many.json()["s"])


async def test_history_is_columns_of_exact_numbers() -> None:
    """With the symbol's decimals, as in v1."""
    market = with_minutes(3)
    async with client_of(market) as client:
        reply = await client.get(f"/udf/history?symbol=BTC_USDT&resolution=1&from={START_S}")
        bars = (await client.get("/api/v1/klines?symbol=BTC_USDT&interval=1m")).json()

    assert "application/json" == reply.headers["content-type"]
    assert '"c":[1.00,1.01,1.02,1.03]' in reply.text
    columns = json.loads(reply.text, parse_float=str)
    assert "ok" == columns.pop("s")
    assert {
        "t": [bar["open_time"] // 1000 for bar in bars],
        "o": [bar["open"] for bar in bars],
        "h": [bar["high"] for bar in bars],
        "l": [bar["low"] for bar in bars],
        "c": [bar["close"] for bar in bars],
        "v": [bar["volume"] for bar in bars],
    } == columns


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", range(6)),
        (f"&from={START_S + 60}&to={START_S + 180}", (1, 2)),
        (f"&from={START_S + 1}&to={START_S + 121}", (1, 2)),
        (f"&to={START_S + 120}&countback=1", (1,)),
        (f"&from={START_S + 60}&to={START_S + 120}&countback=2", (0, 1)),
        (f"&from=0&to={START_S + 999_999}&countback=2", (4, 5)),
        (f"&from={START_S + 240}&countback=0", (4, 5)),
        (f"&from=-8000000000&to={START_S + 60}", (0,)),
        (f"&from={START_S + 240}&currencyCode=USDT&later=1", (4, 5)),
    ],
)
async def test_history_is_chosen_by_open_time(query: str, expected: Sequence[int]) -> None:
    """From inclusive, to exclusive; a number of bars goes before from; the unknown is left alone."""
    answer = await ask(with_minutes(5), f"symbol=BTCUSDT&resolution=1{query}")

    assert [START_S + 60 * number for number in expected] == answer["t"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"&from={START_S + 600}&to={START_S + 900}", {"s": "no_data", "nextTime": START_S + 300}),
        (f"&from=0&to={START_S}", {"s": "no_data"}),
        (f"&to={START_S}&countback=10", {"s": "no_data"}),
        ("&from=0&to=0", {"s": "no_data"}),
        ("&from=-20&to=-10", {"s": "no_data"}),
    ],
)
async def test_empty_span_says_where_the_next_bar_is(query: str, expected: dict[str, Any]) -> None:
    """The newest one before it; nothing if there is none."""
    assert expected == await ask(with_minutes(5), f"symbol=BTCUSDT&resolution=1{query}")


async def test_long_history_is_bounded_by_its_newest_bars(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many are asked for, in either way."""
    monkeypatch.setattr(history, "MAX_BARS", 3)
    market = with_minutes(9)

    spanned = await ask(market, "symbol=BTCUSDT&resolution=1&from=0")
    counted = await ask(market, "symbol=BTCUSDT&resolution=1&countback=1000000")

    assert [START_S + 60 * number for number in (7, 8, 9)] == spanned["t"] == counted["t"]


SPANS = st.integers(min_value=-400, max_value=4_000)


@settings(max_examples=60)
@given(
    closed=st.integers(min_value=0, max_value=60),
    start=SPANS,
    end=SPANS,
    count=st.none() | st.integers(min_value=0, max_value=80),
    most=st.integers(min_value=1, max_value=70),
)
async def test_history_is_that_of_the_market(
    closed: int, start: int, end: int, count: int | None, most: int
) -> None:
    """I1 and I2, against a plain reading of both."""
    market = with_minutes(closed)
    bars = list(await market.klines(0, start=None, end=None, limit=10_000))
    query = f"symbol=BTCUSDT&resolution=1&from={START_S + start}&to={START_S + end}"
    query += "" if count is None else f"&countback={count}"
    before = [bar for bar in bars if bar[0] < (START_S + end) * 1000]
    inside = [bar for bar in before if count or bar[0] >= (START_S + start) * 1000]
    newest = inside[-min(count or most, most) :]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "MAX_BARS", most)
        answer = await ask(market, query)

    if newest:
        assert [bar[0] // 1000 for bar in newest] == answer["t"]
        for name, field in (("o", OPEN), ("h", HIGH), ("l", LOW), ("c", CLOSE)):
            assert [Decimal(bar[field]).scaleb(-2) for bar in newest] == answer[name]
        assert [Decimal(bar[VOLUME]).scaleb(-3) for bar in newest] == answer["v"]
    elif before:
        assert {"s": "no_data", "nextTime": before[-1][0] // 1000} == answer
    else:
        assert {"s": "no_data"} == answer


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("/udf/history?resolution=1", 400, "symbol: expected"),
        ("/udf/history?symbol=BTCUSDT", 400, "resolution: expected"),
        ("/udf/history?symbol=NOPE&resolution=1", 404, "symbol: expected"),
        ("/udf/history?symbol=BTCUSDT&resolution=7", 404, "interval: expected"),
        ("/udf/history?symbol=BTCUSDT&resolution=1&to=soon", 400, "to: expected"),
        ("/udf/history?symbol=BTCUSDT&resolution=1&countback=-1", 400, "countback: expected"),
        ("/udf/symbols", 400, "symbol: expected"),
        ("/udf/symbols?symbol=NYSE:BTCUSDT", 404, "symbol: expected"),
        ("/udf/marks", 404, ""),
        (f"/udf/search?query={'x' * 3000}", 414, "2048 bytes"),
    ],
)
async def test_errors_are_those_of_udf(target: str, status: int, words: str) -> None:
    """Whatever refuses, a front end can show why."""
    async with client_of(with_minutes(1)) as client:
        reply = await client.get(target)

    assert status == reply.status_code
    assert {"s", "errmsg"} == set(reply.json())
    assert "error" == reply.json()["s"]
    assert words in reply.json()["errmsg"]


async def test_start_and_a_lost_database_are_told_as_errors() -> None:
    """With a status that says to come again."""
    market = with_minutes(1)
    market.failure = StoreError("gone")
    async with client_of(None) as client:
        starting = await client.get("/udf/config")
    async with client_of(market) as client:
        lost = await client.get("/udf/history?symbol=BTCUSDT&resolution=1")

    for reply in (starting, lost):
        assert (503, "error") == (reply.status_code, reply.json()["s"])
        assert "retry-after" in reply.headers


async def test_time_is_the_exchange_s() -> None:
    """In seconds, as plain text."""
    market = MemoryMarket()
    async with client_of(market) as client:
        reply = await client.get("/udf/time")

    assert "text/plain; charset=utf-8" == reply.headers["content-type"]
    assert market.now_ms() // 1000 == int(reply.text)
