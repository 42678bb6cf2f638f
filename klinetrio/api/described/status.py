"""What ``/api/v1/status`` shows; counts are described by the classes that count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.api.hub import PushStatistics
from klinetrio.api.openapi.schemas import (
    array,
    by_name,
    fields_of,
    integer,
    number,
    or_null,
    record,
    text,
    time_ms,
    truth,
)
from klinetrio.engine.counts import BookCounts
from klinetrio.engine.swapper import SwapCounts
from klinetrio.recovery.download import Progress
from klinetrio.recovery.judging import Agreement
from klinetrio.recovery.repair import RepairCounts
from klinetrio.storage.persist_counts import PersistCounts
from klinetrio.supervise import Supervision


if TYPE_CHECKING:
    from klinetrio.api.openapi.schemas import Schema

AGREEMENT = {
    "compared": integer("The sum of those below."),
    **fields_of(Agreement),
    "own": integer("Were the exchange's already, and count for nothing."),
    "unproved": integer("Claimed nothing, and differ."),
    "skipped": integer("Could not be compared."),
}


def _named(entry: Schema, description: str) -> Schema:
    fields = {
        "count": integer("How many."),
        "first": array(entry, "The first of them."),
    }
    return record(fields, description=description)


def _of_symbol(**more: Schema) -> Schema:
    return record({"symbol": text(), **more})


_SYMBOLS = record(
    {
        "seeding": _named(text(), "Do not know their past yet."),
        "halted": _named(_of_symbol(reason=text()), "Cannot be followed."),
        "open_holes": _named(_of_symbol(missing=integer("Ids."), since=time_ms()), "Lack trades."),
        "quiet": _named(_of_symbol(last_trade=time_ms()), "No trade for a minute."),
        "deaf_streams": _named(text(), "The stream does not bring what happens."),
        "unproved": _named(_of_symbol(since=time_ms()), "Not all can be proved, from then on."),
    }
)

_CONNECTION = record(
    {
        "stream": text(),
        "state": text(),
        "since_s": or_null(number()),
        "frames": integer(),
        "reconnects": integer(),
        "last_cause": text("Why it was lost, the last time."),
        "last_frame_age_s": or_null(number()),
        "last_pong_age_s": or_null(number()),
    }
)

_TRADES = {
    "frames": integer("Frames of any kind."),
    "decoded": integer(),
    "bad_frames": by_name(integer(), "Frames that could not be used, by kind."),
    **fields_of(BookCounts),
    "dropped": integer(),
    "repaired": integer("Fetched for holes."),
}

_ACTORS = {
    "queued": integer(),
    "queue_high_water": integer(),
    "restarts": integer(),
    "hand_off_p50_ms": number(),
    "hand_off_p99_ms": number(),
}

_STORAGE = {
    "attached": truth("The database is there."),
    **fields_of(PersistCounts),
    "backlog": integer("Closed bars that are not in the database yet."),
    "backlog_memory": integer(),
    "backlog_disk": integer(),
    "oldest_waiting_s": number(),
    "writing_s": number(),
    "spool_size": integer("Bytes."),
}

_HISTORY = {
    "since": or_null(time_ms("How far back is wanted.")),
    "rounds": integer(),
    **fields_of(Progress),
}

_AUDIT = {
    "is_on": truth(),
    "settle": truth("What differs is replaced."),
    "rounds": integer(),
    "failures": integer(),
    "settled": integer(),
    "settling": integer(),
    **AGREEMENT,
}

_REST = {
    "used_weight": integer("Of this minute."),
    "highest_weight": integer(),
    "calls": integer(),
    "repairs_under_way": integer(),
    "suspected": integer("Symbols whose silence was looked into."),
    **fields_of(RepairCounts),
}

ALL = record(
    {
        "version": text(),
        "uptime_s": number(),
        "exchange_time": time_ms("The exchange's clock."),
        "clock_skew_ms": integer("Of this machine's clock against the exchange's."),
        "clock_error_ms": number("How far off the exchange's time may be."),
        "clock_drift_ppm": or_null(number()),
        "universe": record({"symbols": integer(), "intervals": array(text()), "series": integer()}),
        "symbols": _SYMBOLS,
        "trades": record(_TRADES),
        "actors": record(_ACTORS),
        "swaps": record({"generation": integer(), **fields_of(SwapCounts)}),
        "storage": record(_STORAGE),
        "history": record(_HISTORY),
        "audit": record(_AUDIT),
        "rest": record(_REST),
        "parts": by_name(record(fields_of(Supervision)), "Supervised parts, by name."),
        "connections": array(_CONNECTION),
        "push": record(fields_of(PushStatistics)),
    },
    title="Status",
)
