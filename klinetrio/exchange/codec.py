"""Binance's bytes to records: no sockets, no clock, no waiting.

Unknown fields are ignored and optional ones may be missing (``nq`` came in 2025, ``st`` in 2026),
so recordings of any year decode alike.  (Source: Binance's USD-M market stream and market data
documentation of 2026-10, checked on captured frames.)
"""

from __future__ import annotations

from reprlib import repr as brief
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from klinetrio.domain.decimals import INT64_MAX, MAX_SCALE, decimals_of, parse_scaled
from klinetrio.domain.kline import FIELD_COUNT, NO_ID, Flag, make_flags
from klinetrio.domain.listing import Listing
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.errors import DecodeError, ScaleError


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

# Ids and times beyond 2**53 cannot come from the exchange (its own clients read doubles).
_MAX_INTEGER = 2**53


def decode_frame(raw: str | bytes, symbols: Mapping[str, Symbol]) -> AggTrade | None:
    """Return the trade in a stream frame; None if the frame holds something else.

    Args:
        raw: One text frame, wrapped (``{"stream", "data"}``) or bare.
        symbols: By exchange name, those whose trades may come on this connection.

    Raises:
        DecodeError: Not JSON (``garbage``), a trade of another symbol (``symbol``), a field that
            is missing, ill-typed or negative (``field``), or a number with more decimals than
            the symbol has (``precision``) or too large (``range``).
    """
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DecodeError("garbage", f"expected JSON, was {raw[:80]!r}") from error
    if not isinstance(frame, dict):
        raise DecodeError("garbage", f"expected an object, was {raw[:80]!r}")
    data = frame.get("data", frame)
    if not isinstance(data, dict) or data.get("e") != "aggTrade":
        return None
    name = data.get("s")
    symbol = symbols.get(name) if type(name) is str else None
    if symbol is None:
        raise DecodeError("symbol", f"expected a subscribed symbol, was {brief(name)}")
    return decode_agg_trade(data, symbol)


def is_shutdown_notice(raw: str | bytes) -> bool:
    """Tell whether a frame that is no trade announces that the server is about to go.

    Both shapes are understood, bare and wrapped in ``event``; the futures pages document neither,
    the spot ones do.
    """
    if b"serverShutdown" not in (raw.encode() if isinstance(raw, str) else raw):
        return False
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    inner = frame.get("event", frame) if isinstance(frame, dict) else None
    return isinstance(inner, dict) and inner.get("e") == "serverShutdown"


def decode_agg_trade(data: Mapping[str, Any], symbol: Symbol) -> AggTrade:
    """Return the trade in an ``aggTrade`` object, of a stream or of REST.

    Raises:
        DecodeError: As ``decode_frame``.
    """
    try:
        agg_id, first, last, time = data["a"], data["f"], data["l"], data["T"]
        price_text, quantity_text, maker = data["p"], data["q"], data["m"]
    except KeyError as error:
        raise DecodeError("field", f"expected field {error} in a trade of {symbol.name}") from error
    except TypeError as error:
        raise DecodeError("field", f"expected a trade, was {brief(data)}") from error
    for value in (agg_id, first, last, time):
        _check_integer(value)
    if type(maker) is not bool or last < first:
        raise DecodeError("field", f"expected f <= l and a boolean m in trade {agg_id}")
    price = _number(price_text, symbol.price_scale)
    quantity = _number(quantity_text, symbol.quantity_scale)
    if price == 0 or price * quantity > INT64_MAX:
        raise DecodeError("range", f"expected 0 < price, price * quantity of 64 bits: {agg_id}")
    normal = _normal_quantity(data.get("nq"), symbol.quantity_scale)
    return AggTrade(symbol.name, agg_id, price, quantity, first, last, time, maker, normal)


def _normal_quantity(text: object, scale: int) -> int | None:
    """Return ``nq``, None if it is missing or cannot be read: no trade is refused for it."""
    try:
        return None if text is None else _number(text, scale)
    except DecodeError:
        return None


def _check_integer(value: object) -> None:
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise DecodeError("field", f"expected an id, a number or a time, was {brief(value)}")


def _number(text: object, scale: int) -> int:
    if type(text) is not str:
        raise DecodeError("field", f"expected a decimal text, was {brief(text)}")
    try:
        return parse_scaled(text, scale)
    except ScaleError as error:
        raise DecodeError(error.kind, str(error)) from error


def decode_kline(row: Sequence[Any], symbol: Symbol) -> list[int]:
    """Return a REST kline as a closed, complete row that came from the exchange.

    Raises:
        DecodeError: Not the documented array of at least 11 elements.
    """
    price, quantity, quote = symbol.price_scale, symbol.quantity_scale, symbol.quote_scale
    try:
        open_time, trades = row[0], row[8]
        prices = [_number(text, price) for text in row[1:5]]
        volumes = _number(row[5], quantity), _number(row[7], quote), trades
        taker = _number(row[9], quantity), _number(row[10], quote)
    except (LookupError, TypeError) as error:
        raise DecodeError("field", f"expected a kline array, was {brief(row)}") from error
    _check_integer(open_time)
    _check_integer(trades)
    flags = make_flags(Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED, 0)
    return [open_time, *prices, *volumes, *taker, NO_ID, NO_ID, flags]


def decode_klines(body: object, symbol: Symbol) -> npt.NDArray[np.int64]:
    """Return the REST answer as rows, shape ``(n, 13)``, ascending.

    Raises:
        DecodeError: Not a list of kline arrays, or not ascending.
    """
    if not isinstance(body, list):
        raise DecodeError("field", f"expected a list of klines, was {brief(body)}")
    rows = np.zeros((len(body), FIELD_COUNT), np.int64)
    for index, row in enumerate(body):
        rows[index] = decode_kline(row, symbol)
    if (np.diff(rows[:, 0]) <= 0).any():
        raise DecodeError("field", f"expected ascending open times of {symbol.name}")
    return rows


def decode_universe(
    body: object,
    *,
    statuses: Iterable[str] = ("TRADING",),
    contract_types: Iterable[str],
    quote_assets: Iterable[str] = (),
    names: Iterable[str] = (),
    on_odd: Callable[[DecodeError], None] | None = None,
) -> list[Symbol]:
    """Return the symbols of ``exchangeInfo`` that pass the filters.

    Args:
        body: The parsed answer.
        statuses: Accepted ``status`` values.
        contract_types: Accepted ``contractType`` values; empty accepts all.
        quote_assets: Accepted quote assets; empty accepts all.
        names: If given, exactly these symbols of the status are taken, whatever their type.
        on_odd: Told of an entry that passes and cannot be used, which is then left out; without
            it such an entry is an error.

    Raises:
        DecodeError: The answer is not what the exchange documents.
    """
    entries = body.get("symbols") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        raise DecodeError("field", "expected a list of symbols in exchangeInfo")
    statuses, contract_types = set(statuses), set(contract_types)
    quote_assets, names = set(quote_assets), set(names)
    symbols = []
    for entry in entries:
        try:
            if entry.get("status") not in statuses:
                continue
            if names:
                wanted = entry.get("symbol") in names
            else:
                wanted = not contract_types or entry.get("contractType") in contract_types
                wanted = wanted and (not quote_assets or entry.get("quoteAsset") in quote_assets)
        except (AttributeError, TypeError) as error:
            raise DecodeError("field", f"expected a symbol, was {brief(entry)}") from error
        if not wanted:
            continue
        try:
            symbols.append(decode_symbol(entry))
        except DecodeError as error:
            if on_odd is None:
                raise
            on_odd(error)
    return symbols


def decode_listing(body: Any, symbols: Iterable[Symbol]) -> Listing:
    """Return what an ``exchangeInfo`` says of these symbols.

    Args:
        body: The parsed answer, from which they were decoded.
        symbols: In the order of their indexes.
    """
    entries = {each["symbol"]: each for each in body["symbols"] if isinstance(each, dict)}
    head = {name: body[name] for name in body if name not in {"serverTime", "symbols"}}
    return Listing(head, [orjson.dumps(entries[each.name]) for each in symbols])


def decode_symbol(entry: Mapping[str, Any]) -> Symbol:
    """Return one symbol of ``exchangeInfo``.

    A scale is the larger of the stated precision and the decimals of the tick or step: the two
    differ both ways (BTCUSDT has precision 2 and tick 0.10), and prices are printed at the
    former.

    Raises:
        DecodeError: A field is missing or ill-typed.
    """
    try:
        filters = {each.get("filterType"): each for each in entry.get("filters", ())}
        tick = filters.get("PRICE_FILTER", {}).get("tickSize", "1")
        step = filters.get("LOT_SIZE", {}).get("stepSize", "1")
        symbol = Symbol(
            name=str(entry["symbol"]),
            base=str(entry["baseAsset"]),
            quote=str(entry["quoteAsset"]),
            listing_time=int(entry.get("onboardDate", 0)),
            price_scale=max(int(entry["pricePrecision"]), decimals_of(tick)),
            quantity_scale=max(int(entry["quantityPrecision"]), decimals_of(step)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError("field", f"expected a symbol, was {brief(entry)}: {error}") from error
    if symbol.quote_scale > MAX_SCALE:
        raise DecodeError("range", f"expected at most {MAX_SCALE} decimals, {symbol.name} has more")
    return symbol
