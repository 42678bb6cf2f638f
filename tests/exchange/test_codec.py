"""The exchange's bytes become records or one clear kind of error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from klinetrio.domain.decimals import INT64_MAX
from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FIELDS,
    FIRST_AGG_ID,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    Flag,
    is_complete,
    is_final,
    origin_of,
)
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.errors import DecodeError
from klinetrio.exchange.codec import (
    decode_agg_trade,
    decode_frame,
    decode_kline,
    decode_klines,
    decode_symbol,
    decode_universe,
    is_shutdown_notice,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"

recorded = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded market data beside the tree")

BTC = Symbol("BTCUSDT", "BTC", "USDT", 0, 2, 3)
SYMBOLS = {BTC.name: BTC}

# The frame of the protocol sheet, captured on 2026-10-07.
TRADE: dict[str, Any] = {
    "e": "aggTrade",
    "E": 1791382992488,
    "a": 3477868433,
    "s": "BTCUSDT",
    "p": "83091.70",
    "q": "0.022",
    "nq": "0.022",
    "f": 8153634393,
    "l": 8153634394,
    "T": 1791382992338,
    "m": False,
    "st": 1,
}
DECODED = AggTrade(
    "BTCUSDT", 3477868433, 8309170, 22, 8153634393, 8153634394, 1791382992338, False, 22
)
KLINE: list[Any] = [1791382920000, "83137.90", "83155.70", "83082.90", "83084.90", "102.437"]
KLINE += [1791382979999, "8514292.61220", 4409, "49.832", "4141805.93340", "0"]


def frame(**changes: Any) -> bytes:
    """Return a bare frame with other fields; ``...`` leaves one out."""
    return orjson.dumps({k: v for k, v in {**TRADE, **changes}.items() if v is not ...})


def kind_of(raw: str | bytes) -> str:
    """Return the kind of error that a frame is refused with."""
    with pytest.raises(DecodeError) as caught:
        decode_frame(raw, SYMBOLS)
    assert len(str(caught.value)) < 400
    return caught.value.kind


@pytest.mark.parametrize("convert", [bytes, bytes.decode], ids=["bytes", "text"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "combined"])
def test_a_captured_frame_is_a_trade(wrapped: bool, convert: Callable[[bytes], Any]) -> None:
    """From a raw and from a combined stream, as text or bytes."""
    data = {"stream": "btcusdt@aggTrade", "data": TRADE} if wrapped else TRADE
    assert DECODED == decode_frame(convert(orjson.dumps(data)), SYMBOLS)


def test_new_fields_are_ignored_and_optional_ones_may_be_missing() -> None:
    """A recording of any year, and what the exchange will add next, decode alike."""
    assert DECODED == decode_frame(frame(new={"deep": [1]}, M=True, st="x"), SYMBOLS)
    untold = DECODED._replace(normal_quantity=None)
    assert untold == decode_frame(frame(nq=..., st=..., E=...), SYMBOLS)


@pytest.mark.parametrize("value", [5, None, "", "0.0001", "x", ["0.022"]])
def test_no_trade_is_refused_for_a_normal_quantity_that_cannot_be_read(value: object) -> None:
    """No bar depends on it."""
    assert DECODED._replace(normal_quantity=None) == decode_frame(frame(nq=value), SYMBOLS)


@pytest.mark.parametrize(
    "raw",
    [
        '{"e":"kline","E":1,"s":"BTCUSDT","k":{}}',
        '{"stream":"btcusdt@kline_1m","data":{"e":"kline"}}',
        '{"result":null,"id":1}',
        '{"error":{"code":4,"msg":"Too many"},"id":1}',
        '{"e":"serverShutdown","E":1}',
        '{"stream":"x","data":null}',
        '{"stream":"x","data":[1]}',
        "{}",
        '{"e":["aggTrade"]}',
        '{"data":{"e":null}}',
    ],
)
def test_what_is_no_trade_is_none(raw: str) -> None:
    """Answers, other events and empty envelopes are not errors."""
    assert decode_frame(raw, SYMBOLS) is None


@pytest.mark.parametrize(
    "raw", ["", "not json", "null", "[]", "5", '"text"', '{"e":"aggTrade"', b"\xff\xfe", "[" * 5000]
)
def test_what_is_no_object_is_garbage(raw: str | bytes) -> None:
    """Bytes that no JSON object is made of."""
    assert kind_of(raw) == "garbage"


@pytest.mark.parametrize("name", ["ETHUSDT", "btcusdt", "", None, 5, ["BTCUSDT"], {"a": 1}, ...])
def test_another_symbol_is_refused(name: object) -> None:
    """Only subscribed symbols come in on a connection, by exactly their name."""
    assert kind_of(frame(s=name)) == "symbol"


@pytest.mark.parametrize("field", list("aflTpqm"))
def test_a_missing_field_is_named(field: str) -> None:
    """The error says which one."""
    with pytest.raises(DecodeError, match=f"^field: expected field '{field}'"):
        decode_frame(frame(**{field: ...}), SYMBOLS)


NOT_INTEGERS: list[object] = [None, "1", 1.0, -1, 2**53 + 1, 2**70, True, [], {"a": 1}]


@pytest.mark.parametrize("field", list("aflT"))
@pytest.mark.parametrize("value", NOT_INTEGERS, ids=str)
def test_ids_and_times_are_plausible_integers(field: str, value: object) -> None:
    """Nothing is converted, nothing negative or absurd gets in."""
    raw = json.dumps({**TRADE, field: value})
    assert kind_of(raw) == "field"


@pytest.mark.parametrize("value", [None, 0, 1, "true", []], ids=str)
def test_the_maker_is_a_boolean(value: object) -> None:
    """A number is not a side."""
    assert kind_of(frame(m=value)) == "field"


def test_fills_do_not_run_backwards() -> None:
    """``l`` before ``f`` would count a negative number of trades."""
    assert kind_of(frame(f=10, l=9)) == "field"
    decoded = decode_frame(frame(f=9, l=9), SYMBOLS)
    assert decoded is not None
    assert decoded.first_id == decoded.last_id == 9


NOT_NUMBERS: list[object] = [None, 83091.7, 5, "", "NaN", "-1", "1e5", "decimals", "64-bit", []]


@pytest.mark.parametrize("field", ["p", "q"])
@pytest.mark.parametrize("value", NOT_NUMBERS, ids=str)
def test_numbers_are_decimal_texts(field: str, value: object) -> None:
    """A JSON number has been a float on its way already."""
    assert kind_of(frame(**{field: value})) == "field"


@pytest.mark.parametrize(("field", "value"), [("p", "83091.705"), ("q", "0.0005"), ("p", "0.001")])
def test_more_decimals_than_the_symbol_has_are_refused(field: str, value: str) -> None:
    """Never a silent rounding."""
    assert kind_of(frame(**{field: value})) == "precision"


def test_zeros_beyond_the_precision_are_fine() -> None:
    """``83091.7000`` is the same price."""
    assert DECODED == decode_frame(frame(p="83091.7000", q="0.022000000"), SYMBOLS)


@pytest.mark.parametrize(
    ("price", "quantity"),
    [
        ("0", "1"),
        ("0.00", "1"),
        ("92233720368547758.08", "1"),
        ("1" * 60, "1"),
        ("1", "9223372036854775.808"),
        ("9223372036854.78", "10.000"),
    ],
)
def test_a_number_beyond_64_bits_is_out_of_range(price: str, quantity: str) -> None:
    """Also a product that would be, and a price of nothing."""
    assert kind_of(frame(p=price, q=quantity)) == "range"


def test_a_quantity_of_nothing_is_a_trade() -> None:
    """The archives of 2023 have trades with quantity 0."""
    decoded = decode_frame(frame(q="0"), SYMBOLS)
    assert decoded is not None
    assert decoded.quantity == 0


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


def decode_or_refuse(raw: str | bytes) -> None:
    """Decode; anything but a trade, None or DecodeError fails the test."""
    try:
        trade = decode_frame(raw, SYMBOLS)
    except DecodeError as error:
        assert error.kind in {"garbage", "symbol", "field", "precision", "range"}  # noqa: PT017  (it need not raise)
        return
    if trade is not None:
        assert trade.symbol == "BTCUSDT"
        assert 0 < trade.price <= INT64_MAX
        assert 0 <= trade.price * trade.quantity <= INT64_MAX
        assert trade.first_id <= trade.last_id
    is_shutdown_notice(raw)


@given(st.one_of(st.binary(), st.text()))
def test_any_bytes_are_a_trade_or_nothing_or_refused(raw: str | bytes) -> None:
    """Nothing else ever comes out."""
    decode_or_refuse(raw)


@given(JSON)
def test_any_json_is_a_trade_or_nothing_or_refused(value: object) -> None:
    """Valid JSON of any shape, alone and in the envelope."""
    decode_or_refuse(json.dumps(value))
    decode_or_refuse(json.dumps({"stream": "x", "data": value}))
    decode_or_refuse(json.dumps({"event": value, "x": "serverShutdown"}))


@given(st.sampled_from([*TRADE]), JSON)
@example("a", None)
def test_any_value_in_any_field_is_a_trade_or_refused(field: str, value: object) -> None:
    """The frame of a hostile exchange."""
    decode_or_refuse(json.dumps({**TRADE, field: value}))


@given(st.integers(0, 400), st.integers(0, 255))
def test_any_damaged_byte_is_a_trade_or_refused(position: int, byte: int) -> None:
    """A frame with one byte changed."""
    raw = bytearray(frame())
    raw[position % len(raw)] = byte
    decode_or_refuse(bytes(raw))


@pytest.mark.parametrize("field", ["s", "a", "p", "m"])
def test_deep_nesting_is_refused_as_any_other_value(field: str) -> None:
    """An error must not fail while it describes what was wrong."""
    deep = "[" * 1_000 + "]" * 1_000
    raw = json.dumps({**TRADE, field: "DEEP"}).replace('"DEEP"', deep)
    assert kind_of(raw) in {"field", "symbol"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"e":"serverShutdown","E":1791382992488}', True),
        ('{"event":{"e":"serverShutdown","E":1791382992488}}', True),
        (b'{"e":"serverShutdown"}', True),
        ('{"e":"kline"}', False),
        ('{"note":"serverShutdown"}', False),
        ('["serverShutdown"]', False),
        ("serverShutdown", False),
        ('{"event":"serverShutdown"}', False),
        ('{"event":["serverShutdown"]}', False),
    ],
)
def test_a_shutdown_is_announced_in_two_shapes(raw: str | bytes, expected: bool) -> None:
    """Bare and wrapped; the mere word is no announcement."""
    assert expected == is_shutdown_notice(raw)


def test_a_rest_kline_is_a_closed_complete_backfilled_bar() -> None:
    """The array of the protocol sheet, captured on 2026-10-07."""
    row = decode_kline(KLINE, BTC)
    expected = [1791382920000, 8313790, 8315570, 8308290, 8308490, 102437, 851429261220, 4409]
    assert [*expected, 49832, 414180593340, -1, -1] == row[: FIELD_COUNT - 1]
    assert is_final(row)
    assert is_complete(row)
    assert origin_of(row) == "backfilled"
    assert len(FIELDS) == len(row)


@pytest.mark.parametrize(
    "row",
    [
        [],
        KLINE[:10],
        None,
        5,
        "text of many letters",
        {"0": 1},
        [["nested"]] * 12,
        ["1791382920000", *KLINE[1:]],
        [1.5, *KLINE[1:]],
        [2**64, *KLINE[1:]],
        [-60_000, *KLINE[1:]],
        [*KLINE[:8], -1, *KLINE[9:]],
        [*KLINE[:8], 2**63, *KLINE[9:]],
        [KLINE[0], 83137.9, *KLINE[2:]],
        [*KLINE[:5], None, *KLINE[6:]],
    ],
    ids=repr,
)
def test_an_odd_kline_is_refused(row: Any) -> None:
    """Not the documented array, or not its types."""
    with pytest.raises(DecodeError) as caught:
        decode_klines([row], BTC)
    assert caught.value.kind == "field"


@given(JSON)
def test_any_json_for_klines_is_rows_or_refused(value: object) -> None:
    """Likewise for whole answers, and for one odd element in a good row."""
    for body in (value, [value], [[*KLINE[:8], value, *KLINE[9:]]], [[value, *KLINE[1:]]]):
        try:
            rows = decode_klines(body, BTC)
        except DecodeError:
            continue
        assert rows.shape[1] == FIELD_COUNT


def test_klines_must_ascend() -> None:
    """A double or a step back is not an answer to rely on."""
    later = [KLINE[0] + 60_000, *KLINE[1:]]
    expected = [KLINE[0], later[0]]
    assert expected == decode_klines([KLINE, later], BTC)[:, OPEN_TIME].tolist()
    assert decode_klines([], BTC).shape == (0, FIELD_COUNT)
    for body in ([KLINE, KLINE], [later, KLINE]):
        with pytest.raises(DecodeError, match="ascending"):
            decode_klines(body, BTC)


@given(JSON)
def test_any_json_for_a_trade_of_rest_is_a_trade_or_refused(value: Any) -> None:
    """A list of trades may hold anything."""
    with pytest.raises(DecodeError):
        decode_agg_trade(value, BTC)


ENTRY: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "contractType": "PERPETUAL",
    "onboardDate": 1567965300000,
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "pricePrecision": 2,
    "quantityPrecision": 3,
    "filters": [
        {"minPrice": "556.80", "filterType": "PRICE_FILTER", "tickSize": "0.10"},
        {"stepSize": "0.001", "filterType": "LOT_SIZE"},
        {"filterType": "SOMETHING_NEW", "tickSize": "0.0000000001"},
    ],
}


def test_scales_are_the_larger_of_precision_and_step() -> None:
    """Both ways, and unknown filters do not count."""
    assert Symbol("BTCUSDT", "BTC", "USDT", 1567965300000, 2, 3) == decode_symbol(ENTRY)
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.0001000"},
        {"filterType": "LOT_SIZE", "stepSize": "1"},
    ]
    finer = decode_symbol({**ENTRY, "filters": filters})
    assert (finer.price_scale, finer.quantity_scale) == (4, 3)
    bare = {key: value for key, value in ENTRY.items() if key not in {"filters", "onboardDate"}}
    assert Symbol("BTCUSDT", "BTC", "USDT", 0, 2, 3) == decode_symbol(bare)


def test_more_decimals_than_64_bits_can_hold_are_refused() -> None:
    """18 decimals of quote volume are the most."""
    assert decode_symbol({**ENTRY, "pricePrecision": 15}).quote_scale == 18
    with pytest.raises(DecodeError, match=r"^range: .* BTCUSDT has more"):
        decode_symbol({**ENTRY, "pricePrecision": 16})


def universe(**filters: Any) -> list[str]:
    """Return the names that pass the filters out of a small exchange."""
    entries = [
        ENTRY,
        {**ENTRY, "symbol": "BTCUSDC", "quoteAsset": "USDC"},
        {**ENTRY, "symbol": "BTCUSDT_261225", "contractType": "CURRENT_QUARTER"},
        {**ENTRY, "symbol": "TSLAUSDT", "contractType": "TRADIFI_PERPETUAL"},
        {**ENTRY, "symbol": "OLDUSDT", "status": "SETTLING", "pricePrecision": None},
        {**ENTRY, "symbol": "NEWUSDT", "status": "PENDING_TRADING"},
    ]
    symbols = decode_universe({"symbols": entries}, **{"contract_types": (), **filters})
    return [symbol.name for symbol in symbols]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["BTCUSDT", "BTCUSDC", "BTCUSDT_261225", "TSLAUSDT"]),
        ({"contract_types": ["PERPETUAL"]}, ["BTCUSDT", "BTCUSDC"]),
        ({"contract_types": ["PERPETUAL"], "quote_assets": ["USDC"]}, ["BTCUSDC"]),
        ({"quote_assets": ["EUR"]}, []),
        ({"contract_types": ["PERPETUAL"], "names": ["TSLAUSDT"]}, ["TSLAUSDT"]),
        ({"names": ["NEWUSDT"]}, []),
        ({"names": ["NEWUSDT"], "statuses": ["PENDING_TRADING"]}, ["NEWUSDT"]),
    ],
)
def test_the_universe_is_what_passes_the_filters(
    filters: dict[str, Any], expected: list[str]
) -> None:
    """A symbol that is named is taken whatever its type; what is not wanted may be odd."""
    assert expected == universe(**filters)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"symbols": None},
        {"symbols": [None]},
        {"symbols": [["BTCUSDT"]]},
        {"symbols": [{**ENTRY, "status": ["TRADING"]}]},
        {"symbols": [{**ENTRY, "pricePrecision": "two"}]},
        {"symbols": [{**ENTRY, "pricePrecision": None}]},
        {"symbols": [{**ENTRY, "filters": None}]},
        {"symbols": [{**ENTRY, "filters": [None]}]},
        {"symbols": [{**ENTRY, "filters": [{"filterType": ["PRICE_FILTER"]}]}]},
        {"symbols": [{**ENTRY, "filters": [{"filterType": "LOT_SIZE", "stepSize": 1}]}]},
        {"symbols": [{key: value for key, value in ENTRY.items() if key != "baseAsset"}]},
    ],
)
def test_an_odd_universe_is_refused(body: object) -> None:
    """Nothing but DecodeError comes out of an answer that is not as documented."""
    with pytest.raises(DecodeError) as caught:
        decode_universe(body, contract_types=())
    assert caught.value.kind == "field"


@given(st.sampled_from([*ENTRY]), JSON)
def test_any_value_in_a_symbol_is_a_symbol_or_refused(field: str, value: object) -> None:
    """Whatever the exchange lists."""
    try:
        decode_universe({"symbols": [{**ENTRY, field: value}]}, contract_types=())
    except DecodeError as error:
        assert error.kind in {"field", "range"}  # noqa: PT017  (it need not raise)


# ---------------------------------------------------------------------------------------------
# Recordings of the real exchange.
# ---------------------------------------------------------------------------------------------


def symbols_of_2021() -> dict[str, Symbol]:
    """Return the universe of the recorded exchangeInfo of July 2021."""
    body = orjson.loads(gzip.decompress((DATA / "fapi_exchangeInfo_20210721.json.gz").read_bytes()))
    found = decode_universe(body, contract_types=["PERPETUAL"])
    return {symbol.name: symbol for symbol in found}


def frames_of_2021() -> Iterator[str]:
    """Yield the recorded combined-stream frames of July 2021."""
    path = DATA / "cryptofeed_um_20210722_raw.ws.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            yield line.split(": ", 1)[1]


@recorded
def test_the_universe_of_2021_decodes() -> None:
    """122 symbols were listed, one of them pending; delivery contracts are filtered by type."""
    symbols = symbols_of_2021()
    assert len(symbols) == 119
    assert not any("_" in name for name in symbols)
    assert symbols["BTCUSDT"] == Symbol("BTCUSDT", "BTC", "USDT", 1569398400000, 2, 3)


@recorded
def test_every_frame_of_2021_decodes() -> None:
    """91 trades, contiguous per symbol, and 1,444 frames of other streams."""
    symbols = symbols_of_2021()
    decoded = [decode_frame(raw, symbols) for raw in frames_of_2021()]
    trades = [trade for trade in decoded if trade is not None]
    assert (91, 1535) == (len(trades), len(decoded))
    for name in {trade.symbol for trade in trades}:
        ids = [trade.agg_id for trade in trades if trade.symbol == name]
        assert list(range(ids[0], ids[0] + len(ids))) == ids


@recorded
def test_every_frame_of_2025_and_2026_decodes() -> None:
    """Captured singles of the current layout, wrapped and bare; other events are no trades."""
    lines = (DATA / "um_frames_2026_singles.jsonl").read_text("utf-8").splitlines()
    wanted = []
    for line in lines:
        data = orjson.loads(line)
        wanted.append(data.get("data", data))
    names = {each["s"] for each in wanted}
    symbols = {name: Symbol(name, "X", "USDT", 0, 4, 3) for name in names}
    decoded = [decode_frame(line, symbols) for line in lines]
    expected = [each["a"] if each["e"] == "aggTrade" else None for each in wanted]
    assert expected == [trade and trade.agg_id for trade in decoded]
    assert sum(trade is not None for trade in decoded) >= 5


@recorded
def test_rest_trades_of_2020_and_2026_decode() -> None:
    """With and without ``nq``; the quantity is ``q``, RPI orders included."""
    for name, base, scales, count in (
        ("gct_fapi_aggTrades_LTCUSDT_20201016.json", "LTC", (2, 3), 500),
        ("fapi_aggTrades_CLUSDT_20260501_rpi.json", "CL", (2, 2), 1000),
    ):
        symbol = Symbol(f"{base}USDT", base, "USDT", 0, *scales)
        body = orjson.loads((DATA / name).read_bytes())
        body = body if isinstance(body, list) else body["data"]
        trades = [decode_agg_trade(each, symbol) for each in body]
        assert count == len(trades)
        ids = [trade.agg_id for trade in trades]
        assert list(range(ids[0], ids[0] + count)) == ids
        units = 10**symbol.quantity_scale
        assert round(float(body[3]["q"]) * units) == trades[3].quantity


@recorded
def test_rest_klines_of_2020_decode() -> None:
    """500 five-minute bars, the open one included."""
    body = orjson.loads((DATA / "gct_fapi_klines_5m_LTCUSDT_20201016_first.json").read_bytes())
    rows = decode_klines(body, BTC)
    assert len(rows) == 500
    opens = rows[:, OPEN_TIME].tolist()
    assert all(INTERVALS["5m"].open_of(each) == each for each in opens)
    assert [round(float(row[4]) * 100) for row in body] == rows[:, CLOSE].tolist()


@recorded
def test_a_kline_with_float_noise_is_refused_not_rounded() -> None:
    """One day of 2019 has a quote volume of eight decimals; the other 115 decode."""
    body = orjson.loads((DATA / "gct_fapi_klines_1d_BTCUSDT_2019.json").read_bytes())
    noisy = [row for row in body if row[7] == "286175252.41143996"]
    assert len(decode_klines([row for row in body if row not in noisy], BTC)) == 115
    with pytest.raises(DecodeError, match=r"^precision: .* was '286175252.41143996'"):
        decode_klines(noisy, BTC)


@recorded
def test_the_rest_samples_of_2026_decode() -> None:
    """One symbol, three klines and two trades as answered on 2026-09-15."""
    samples = orjson.loads((DATA / "fapi_rest_2026_samples.json").read_bytes())
    symbol = decode_symbol(samples["exchangeInfo.symbols[BTCUSDT]"])
    assert symbol == Symbol("BTCUSDT", "BTC", "USDT", 1567965300000, 2, 3)
    rows = decode_klines(samples["GET /fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=3"], symbol)
    assert [7693620, 7696550, 7695360] == rows[:, OPEN].tolist()
    assert rows[0, QUOTE_VOLUME] == 159143627140
    assert (rows[:, FIRST_AGG_ID] == -1).all()
    assert all(flags & Flag.FINAL for flags in rows[:, -1].tolist())
    body = samples["GET /fapi/v1/aggTrades?symbol=BTCUSDT&limit=2"]
    assert [7690600, 7690590] == [decode_agg_trade(each, symbol).price for each in body]


def test_one_odd_symbol_does_not_cost_the_others() -> None:
    """It is left out and told of, if somebody listens."""
    odd: list[DecodeError] = []
    body = {"symbols": [{**ENTRY, "symbol": "ODDUSDT", "pricePrecision": 17}, ENTRY]}

    found = decode_universe(body, contract_types=(), on_odd=odd.append)

    assert [ENTRY["symbol"]] == [symbol.name for symbol in found]
    assert "ODDUSDT" in str(odd[0])
