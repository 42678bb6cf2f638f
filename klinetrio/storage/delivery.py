"""One transaction of the persister, as it is done in a thread."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.kline import FIELD_COUNT
from klinetrio.errors import StoreError
from klinetrio.storage.protocol import Batch


if TYPE_CHECKING:
    from klinetrio.storage.protocol import KlineStore
    from klinetrio.storage.spool import Spool

NOTHING = Batch(np.zeros(0, np.int64), np.zeros((0, FIELD_COUNT), np.int64))


@attrs.frozen(slots=True)
class Load:
    """What is to be written.

    Attributes:
        closed: Closed bars that wait in memory.
        live: Open bars.
        spooled: At most so many closed bars of the spool go with them.
        whole: Whether nothing is left waiting with them.
        live_mark: The spool's, when the open bars were copied; 0 if they are not in here.
    """

    closed: Batch
    live: Batch
    spooled: int
    whole: bool
    live_mark: int


@attrs.frozen(slots=True)
class Delivered:
    """What a transaction did.

    Attributes:
        rows: Bars in it.
        seconds: How long it took.
        whole: Whether nothing was left waiting.
        size: The database's size after it, in bytes.
        journal_size: The size of its journal alone.
        spool_error: Why the spool's part could not be read, or not be removed from there; None if
            all went well.
    """

    rows: int
    seconds: float
    whole: bool
    size: int
    journal_size: int
    spool_error: StoreError | None = None


def deliver(database: KlineStore, spool: Spool, load: Load) -> Delivered:
    """Write what is in the spool, what is in memory and the open bars in one transaction.

    The spool's bars come first, so that of two states of a bar the newer one is written last.

    Raises:
        StoreError: It failed; nothing has changed.
    """
    started = perf_counter()
    spooled, error = NOTHING, None
    if load.spooled:
        try:
            spooled = spool.first(load.spooled)
        except StoreError as cause:
            # The bars in memory need not wait for those that cannot be read; the open ones must.
            load = attrs.evolve(load, live=NOTHING, whole=False, live_mark=0)
            error = cause
    closed = joined(spooled, load.closed)
    if len(closed) or len(load.live):
        database.write(closed, load.live)
    try:
        spool.remove(closed, load.live_mark)
    except StoreError as cause:
        # What is in both places is written once more, which changes nothing.
        error = cause
    seconds = perf_counter() - started
    database.tidy()
    return Delivered(
        len(closed) + len(load.live),
        seconds,
        load.whole and error is None,
        database.size(),
        database.journal_size(),
        error,
    )


def joined(first: Batch, second: Batch) -> Batch:
    """Return the bars of both."""
    if not len(first):
        return second
    series = np.concatenate([first.series, second.series])
    return Batch(series, np.concatenate([first.bars, second.bars]))
