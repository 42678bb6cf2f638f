"""Trades of 2026, with orders of the price improvement programme and holes between fill ids."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from klinetrio.domain.interval import MINUTE, parse_intervals
from klinetrio.domain.kline import QUOTE_VOLUME, TRADE_COUNT, VOLUME, Flag, is_complete
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.book import SymbolBook
from klinetrio.engine.outbox import Outbox
from klinetrio.engine.store import DoubleBufferedKlineStore
from klinetrio.exchange.codec import decode_agg_trade
from tests.engine.test_book import NAMES


DATA = Path(__file__).parents[3] / "shared" / "data" / "fapi_aggTrades_CLUSDT_20260501_rpi.json"
SYMBOL = Symbol("CLUSDT", "CL", "USDT", 0, 2, 2)


@pytest.mark.skipif(not DATA.exists(), reason="the recorded market data is not here")
def test_they_fold_with_q_and_holes_between_fill_ids_raise_no_alarm() -> None:
    """Their quantity is all of it, ``nq`` only a part; aggregate ids alone prove."""
    body = orjson.loads(DATA.read_bytes())
    assert any(row["nq"] != row["q"] for row in body)
    assert any(after["f"] != before["l"] + 1 for before, after in pairwise(body))
    intervals = parse_intervals(NAMES)
    store = DoubleBufferedKlineStore.allocate(len(intervals))
    outbox = Outbox()
    book = SymbolBook(SYMBOL, intervals, store=store, outbox=outbox, first_row=0)
    book.set_feed(up=True)
    for row in body:
        book.apply(decode_agg_trade(row, SYMBOL))
    book.flush()
    store.swap()
    assert (book.counts.gaps, book.ledger.holes, book.counts.folded) == (0, [], len(body))
    assert not book.unsure
    closed = {bar.values[0]: bar.values for bar in outbox.take()[0] if bar.row == 0}
    # The first bar began before the first trade; the one after it is whole.
    minutes = sorted(closed)
    assert [is_complete(closed[each]) for each in minutes] == [False]
    live = store.live_row(0)
    assert is_complete(live)
    assert live[-1] & Flag.COMPLETE
    for open_time, bar in (*closed.items(), (live[0], live)):
        inside = [row for row in body if open_time <= row["T"] < open_time + MINUTE]
        sums = [Decimal(row["q"]) for row in inside]
        quote = [Decimal(row["p"]) * Decimal(row["q"]) for row in inside]
        assert Decimal(int(bar[VOLUME])) == sum(sums) * 100
        assert Decimal(int(bar[QUOTE_VOLUME])) == sum(quote) * 10_000
        assert bar[TRADE_COUNT] == sum(row["l"] - row["f"] + 1 for row in inside)
