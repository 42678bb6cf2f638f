"""Trades from memory: what is answered is whole, what is not held is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.api.fapi.errors import FapiError
from klinetrio.api.fapi.parameters import Window
from klinetrio.api.fapi.trades import choose, trade_row
from klinetrio.domain.trade import AggTrade
from tests.api.memory_market import START, SYMBOLS


def trade(agg_id: int, time: int) -> AggTrade:
    """Return a trade of which only id and time matter."""
    return AggTrade("BTCUSDT", agg_id, 100, 2, agg_id, agg_id, time, False, 1)


@st.composite
def tapes(draw: st.DrawFn) -> tuple[list[AggTrade], list[AggTrade]]:
    """Return all trades there were, and those held: a tail of them with holes."""
    steps = draw(st.lists(st.integers(0, 3), min_size=1, max_size=30))
    times = [sum(steps[: index + 1]) for index in range(len(steps))]
    every = [trade(100 + index, START + time) for index, time in enumerate(times)]
    first = draw(st.integers(0, len(every)))
    lost = draw(st.sets(st.integers(0, len(every)), max_size=3))
    return every, [each for i, each in enumerate(every) if i >= first and i not in lost]


@given(
    tapes(),
    st.none() | st.integers(95, 135),
    st.none() | st.integers(-3, 60),
    st.none() | st.integers(0, 60),
    st.integers(1, 12),
)
def test_an_answer_has_no_hole_and_is_of_what_was_asked(
    tape: tuple[list[AggTrade], list[AggTrade]],
    from_id: int | None,
    after: int | None,
    length: int | None,
    limit: int,
) -> None:
    """Contiguous; from the very first asked for on, or up to the last; else refused."""
    every, held = tape
    start = None if after is None else START + after
    end = None if length is None else (start or START) + length
    try:
        chosen = list(choose(held, Window(start, end, limit), from_id))
    except FapiError as error:
        refused = error.code
    else:
        refused = 0
    if refused:
        assert refused in {-4166, -1128}
        return

    ids = [each.agg_id for each in chosen]
    assert ids == list(range(ids[0], ids[0] + len(ids))) if ids else True
    assert len(ids) <= limit
    wanted = [
        each
        for each in every
        if (from_id is None or each.agg_id >= from_id)
        and (start is None or each.time >= start)
        and (end is None or each.time <= end)
    ]
    if from_id is not None or start is not None:
        assert chosen == wanted[: len(chosen)]
    elif held and held[-1] == every[-1]:
        in_time = [each for each in held if end is None or each.time <= end]
        assert chosen == in_time[-len(chosen) :]


def test_ids_and_times_together_are_refused() -> None:
    """The exchange advises against it; one of the two would have to be ignored."""
    with pytest.raises(FapiError) as caught:
        choose([trade(1, START)], Window(START, None, 5), 1)

    assert caught.value.code == -1128


def test_what_is_not_held_is_refused_in_words() -> None:
    """The message says what could be had."""
    with pytest.raises(FapiError, match="ids 7 to 8 are, times") as caught:
        choose([trade(7, START), trade(8, START + 1)], Window(None, None, 5), 6)

    assert caught.value.code == -4166


def test_an_answer_ends_before_a_missing_trade() -> None:
    """And who asks on from there is told that it is missing."""
    held = [trade(1, START), trade(2, START), trade(4, START + 1)]
    assert [each.agg_id for each in choose(held, Window(None, None, 9), 1)] == [1, 2]
    with pytest.raises(FapiError):
        choose(held, Window(None, None, 9), 3)
    assert [each.agg_id for each in choose(held, Window(None, None, 9), None)] == [4]


def test_trade_has_the_promised_form() -> None:
    """Names, order and types as captured; ``nq`` is left out if the exchange did not tell it."""
    row = trade_row(trade(7, START), SYMBOLS[0])
    captured = {"a": 7, "p": "1.00", "q": "0.002", "nq": "0.001", "f": 7, "l": 7, "T": START}
    assert list(row.items()) == list((captured | {"m": False}).items())
    older = trade_row(trade(7, START)._replace(normal_quantity=None), SYMBOLS[0])
    assert "nq" not in older
