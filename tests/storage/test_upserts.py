"""Which of two states of one closed bar the database keeps, case by case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klinetrio.domain.kline import (
    FIELDS,
    FIRST_AGG_ID,
    FLAGS,
    LAST_AGG_ID,
    OPEN,
    Flag,
    make_flags,
)
from tests.storage.backends import rows_of
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch


if TYPE_CHECKING:
    from klinetrio.storage.protocol import KlineStore

PROVED = Flag.FINAL | Flag.COMPLETE
UNPROVED = Flag.FINAL
PAST = PROVED | Flag.BACKFILLED


@pytest.mark.parametrize(
    ("stored", "offered", "taken"),
    [
        # Bits, revision and trades of each.  Proof decides first ...
        ((UNPROVED, 0, 3), (PROVED, 0, 3), True),
        ((UNPROVED, 9, 9), (PROVED, 0, 1), True),
        ((PROVED, 0, 1), (UNPROVED, 9, 9), False),
        ((PROVED | Flag.SETTLED, 0, 1), (UNPROVED | Flag.SETTLED, 9, 9), False),
        # ... then the revision, whatever the trades ...
        ((PROVED, 1, 9), (PROVED, 2, 1), True),
        ((PROVED, 2, 1), (PROVED, 1, 9), False),
        ((UNPROVED, 1, 9), (UNPROVED, 2, 1), True),
        ((UNPROVED, 2, 1), (UNPROVED, 1, 9), False),
        # ... then the trades ...
        ((PROVED, 1, 3), (PROVED, 1, 4), True),
        ((PROVED, 1, 4), (PROVED, 1, 3), False),
        ((UNPROVED, 0, 3), (UNPROVED, 0, 4), True),
        ((UNPROVED, 0, 4), (UNPROVED, 0, 3), False),
        # ... and among equals the first one stays.
        ((PROVED, 1, 3), (PROVED, 1, 3), False),
        ((UNPROVED, 1, 3), (UNPROVED, 1, 3), False),
        # How a bar came to be decides nothing.
        ((PROVED, 0, 3), (PAST, 0, 3), False),
        ((PAST, 0, 3), (PROVED, 0, 3), False),
        # But what the exchange itself has settled stays until it settles it anew.
        ((PROVED, 9, 9), (PROVED | Flag.SETTLED, 0, 1), True),
        ((PROVED | Flag.SETTLED, 0, 1), (PROVED, 9, 9), False),
        ((PROVED | Flag.SETTLED, 1, 9), (PROVED | Flag.SETTLED, 2, 1), True),
    ],
)
def test_a_closed_bar_is_replaced_by_a_better_one_only(
    store: KlineStore, stored: tuple[int, int, int], offered: tuple[int, int, int], taken: bool
) -> None:
    """And then by all of it."""
    bits, revision, trades = stored
    old = bar(BASE, 100, bits=bits, revision=revision, trades=trades)
    bits, revision, trades = offered
    new = bar(BASE, 200, bits=bits, revision=revision, trades=trades)
    store.write(batch((0, old)), NOTHING)
    store.write(batch((0, new)), NOTHING)
    assert [new if taken else old] == rows_of(store)


def history_bar(value: int = 7, *, bits: int = PAST) -> list[int]:
    """Return a bar as the exchange's own klines tell it: without ids."""
    row = bar(BASE, value, bits=bits)
    row[FIRST_AGG_ID] = row[LAST_AGG_ID] = -1
    return row


def test_history_fills_what_is_missing(store: KlineStore) -> None:
    """And leaves the neighbours alone."""
    before, after = bar(BASE - MINUTE, bits=UNPROVED), bar(BASE + MINUTE, bits=UNPROVED)
    store.write(batch((0, before), (0, after)), NOTHING)
    store.write_history(batch((0, history_bar())))
    assert [before, history_bar(), after] == rows_of(store)


@pytest.mark.parametrize(
    "bits", [PROVED, PAST, PROVED | Flag.SETTLED, PROVED | Flag.BACKFILLED | Flag.SETTLED]
)
@pytest.mark.parametrize("offered", [PAST, PAST | Flag.SETTLED, UNPROVED | Flag.BACKFILLED])
@pytest.mark.parametrize("revision", [0, 3])
def test_history_never_touches_what_is_proved(
    store: KlineStore, bits: int, offered: int, revision: int
) -> None:
    """Whatever it says, and however it came to be proved."""
    old = bar(BASE, 100, bits=bits, revision=revision, trades=1)
    store.write(batch((0, old)), NOTHING)
    new = history_bar(200, bits=offered)
    new[FLAGS] = make_flags(offered, 9)
    store.write_history(batch((0, new)))
    assert [old] == rows_of(store)


@pytest.mark.parametrize("offered", [PAST, UNPROVED | Flag.BACKFILLED])
@pytest.mark.parametrize(
    "bits", [UNPROVED, UNPROVED | Flag.BACKFILLED, UNPROVED | Flag.SETTLED | Flag.BACKFILLED]
)
def test_history_replaces_all_that_is_not_proved(
    store: KlineStore, bits: int, offered: int
) -> None:
    """However it came to be, and however many trades it has seen."""
    store.write(batch((0, bar(BASE, 100, bits=bits, trades=99))), NOTHING)
    store.write_history(batch((0, history_bar(bits=offered))))
    expected = history_bar()
    expected[FLAGS] = make_flags(offered, 1)
    assert [expected] == rows_of(store)


@pytest.mark.parametrize("field", range(OPEN, FIRST_AGG_ID), ids=FIELDS[OPEN:FIRST_AGG_ID])
def test_history_corrects_what_is_not_proved_and_counts_it(store: KlineStore, field: int) -> None:
    """Each value by itself makes a new revision, which goes on from the stored one."""
    old = history_bar(bits=UNPROVED)
    old[field] += 1
    old[FLAGS] = make_flags(UNPROVED, 4)
    store.write(batch((0, old)), NOTHING)
    for _ in range(2):
        store.write_history(batch((0, history_bar())))
        expected = history_bar()
        expected[FLAGS] = make_flags(PAST, 5)
        assert [expected] == rows_of(store)


def test_history_that_only_proves_is_no_new_revision(store: KlineStore) -> None:
    """The values are as they were; ids and bits are the exchange's."""
    old = bar(BASE, bits=UNPROVED, revision=4)
    store.write(batch((0, old)), NOTHING)
    store.write_history(batch((0, history_bar())))
    expected = history_bar()
    expected[FLAGS] = make_flags(PAST, 4)
    assert [expected] == rows_of(store)


def test_what_history_has_proved_is_closed_to_worse(store: KlineStore) -> None:
    """A live state that ids do not prove does not come back over it."""
    store.write(batch((0, bar(BASE, 100, bits=UNPROVED))), NOTHING)
    store.write_history(batch((0, history_bar())))
    store.write(batch((0, bar(BASE, 100, bits=UNPROVED, revision=7, trades=99))), NOTHING)
    expected = history_bar()
    expected[FLAGS] = make_flags(PAST, 1)
    assert [expected] == rows_of(store)
