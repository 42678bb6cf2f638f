"""Answers of many pages are whole while their bars move."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.api import pages
from klinetrio.api.pages import KlinePages
from klinetrio.api.problems import ApiError
from klinetrio.api.selection import KlinesQuery
from klinetrio.domain.kline import OPEN, OPEN_TIME, is_final
from klinetrio.errors import StoreError
from tests.storage.bars import BASE, MINUTE
from tests.storage.test_history import STEPS, Line, lines


if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_S = 60.0


@attrs.define
class LineMarket:
    """A market whose bars are where those of a line are."""

    line: Line
    read: int = 0

    def live_row(self, row: int) -> Sequence[int]:
        """Return the open bar."""
        return self.line.store.live_row(row)

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return one page, joined from everywhere."""
        self.read += 1
        return await self.line.history.klines(row, start=start, end=end, limit=limit)


def everything(start: int, end: int | None = None, *rows: int) -> KlinesQuery:
    """Return the query for all bars of a span."""
    return KlinesQuery(rows or (0,), start, end, None, None)


def paged(market: Any, query: KlinesQuery) -> KlinePages:
    """Return the pages of a query to a market that is none but for what pages need."""
    return KlinePages(market, query)


@settings(max_examples=60)
@given(
    STEPS,
    st.lists(st.tuples(STEPS, STEPS, STEPS), max_size=6),
    st.tuples(st.integers(-1, 9), st.none() | st.integers(0, 14)),
    st.integers(1, 4),
)
def test_pages_of_a_moving_series_have_no_hole_and_no_double(
    first: list[str],
    moves: list[tuple[list[str], list[str], list[str]]],
    span: tuple[int, int | None],
    page_bars: int,
) -> None:
    """Whatever moves before, during and after each page, and between two of them (I1)."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_BARS", page_bars)
        for line in lines(Path(folder)):
            trio.run(_read_all_while_moving, line, first, moves, span)


async def _read_all_while_moving(
    line: Line,
    first: list[str],
    moves: list[tuple[list[str], list[str], list[str]]],
    span: tuple[int, int | None],
) -> None:
    line.do_all(first)
    newest = line.number
    start, end = (None if each is None else BASE + each * MINUTE for each in span)
    assert start is not None
    document = paged(LineMarket(line), everything(start, end))
    todo = list(moves)
    bars: list[Sequence[int]] = []
    with trio.fail_after(LIMIT_S):
        while True:
            before, after, between = todo.pop() if todo else ([], [], [])
            line.database.before = partial(line.do_all, before)
            line.database.after = partial(line.do_all, after)
            page = await document.next()
            if page is None:
                break
            assert len(page.bars) <= pages.PAGE_BARS
            bars.extend(page.bars)
            line.do_all(between)

    low, high = max(0, span[0]), newest if span[1] is None else min(newest, span[1])
    numbers = list(range(low, high + 1))
    assert numbers == [(bar[OPEN_TIME] - BASE) // MINUTE for bar in bars]
    assert numbers == [bar[OPEN] for bar in bars]
    # What was closed when it was asked for is shown closed; only the last one may be open.
    assert all(is_final(bar) for bar in bars if bar[OPEN_TIME] < BASE + newest * MINUTE)


@pytest.fixture
async def market(tmp_path: Path) -> Any:
    """Return a market of one series with ten closed bars, and another without any."""
    for line in lines(tmp_path):
        line.do_all(["close"] * 6 + ["write"] + ["close"] * 4)
        yield LineMarket(line)


async def test_a_page_is_as_long_as_it_may_be(
    market: LineMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the last one says so by being shorter."""
    monkeypatch.setattr(pages, "PAGE_BARS", 4)
    document = paged(market, everything(BASE))
    with trio.fail_after(LIMIT_S):
        lengths = [len(page.bars) for _ in range(3) if (page := await document.next())]
        assert await document.next() is None

    assert lengths == [4, 4, 3]


async def test_series_come_one_after_the_other(market: LineMarket) -> None:
    """Each to the bar that was open when all were asked for; one may have none."""
    document = paged(market, everything(BASE, None, 2, 0))
    with trio.fail_after(LIMIT_S):
        first = await document.next()
        market.line.close()
        second = await document.next()

    assert first is not None
    assert second is not None
    assert [(2, 0), (0, 11)] == [(page.row, len(page.bars)) for page in (first, second)]


async def test_a_limit_is_one_page_each(market: LineMarket) -> None:
    """The last bars are read at once."""
    document = paged(market, KlinesQuery((0, 2), None, None, 3, None))
    with trio.fail_after(LIMIT_S):
        page = await document.next()
        assert page is not None
        assert [8, 9, 10] == [bar[OPEN] for bar in page.bars]
        assert await document.next() is not None
        assert await document.next() is None
    assert market.read == 2


async def test_a_database_that_cannot_be_read_is_told(market: LineMarket) -> None:
    """Not a page with a hole."""

    def fail() -> None:
        raise StoreError("gone")

    market.line.database.before = fail
    with trio.fail_after(LIMIT_S), pytest.raises(ApiError) as caught:
        await paged(market, everything(BASE)).next()

    assert (503, "store_unavailable") == (caught.value.status, caught.value.code)
