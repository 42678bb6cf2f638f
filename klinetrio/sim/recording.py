"""Reads recorded aggTrade frames, as several recorders wrote them.

One frame a line, gzipped or not, with or without the time of receipt before it::

    1626992741.06217: {"stream":"btcusdt@aggTrade","data":{"e":"aggTrade",...}}
    1723161256322000000 {"e":"aggTrade",...}
    {"type":"aggTrade","recv":1781545560.48,"data":{"e":"aggTrade",...}}

Everything else in such a file (other events, the URL on the first line) is skipped and counted.

Invariant I1: a payload is the recorder's bytes, never a re-serialisation, where the event stands
last in its line; that is so in all recordings known.
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import orjson

from klinetrio.domain.symbol import Symbol
from klinetrio.sim.instruments import Instrument


if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_GZIP_MAGIC = b"\x1f\x8b"
_LINE = re.compile(rb"^\s*(?:\d+(?:\.\d+)?:?\s+)?(\{.*\})\s*$")
_DATA = re.compile(rb'"data"\s*:\s*')
_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "BTC", "USD")


class RecordedEvent(NamedTuple):
    """One recorded aggTrade event.

    Attributes:
        due: When it is sent: its ``E``, or that of an earlier line if that was later, UTC ms.
        fields: The event's own keys and values.
        payload: The event's bytes.
    """

    due: int
    fields: dict[str, Any]
    payload: bytes

    @property
    def symbol(self) -> str:
        """The exchange's name of the symbol."""
        return str(self.fields["s"])


@attrs.frozen
class Recording:
    """A whole file.

    Attributes:
        events: In the order of the file.
        skipped: Lines that are no aggTrade event.
    """

    events: tuple[RecordedEvent, ...]
    skipped: int

    @property
    def symbols(self) -> list[str]:
        """Names of the symbols, by first appearance."""
        return list(dict.fromkeys(event.symbol for event in self.events))


def read_recording(path: Path) -> Recording:
    """Read a file.

    Raises:
        ValueError: There is no aggTrade event in it.
    """
    raw = path.read_bytes()
    if raw.startswith(_GZIP_MAGIC):
        raw = gzip.decompress(raw)
    events: list[RecordedEvent] = []
    skipped = due = 0
    for line in raw.splitlines():
        parsed = _parse_line(line)
        if parsed is None:
            skipped += 1
            continue
        fields, payload = parsed
        due = max(due, int(fields["E"]))
        events.append(RecordedEvent(due, fields, payload))
    if not events:
        raise ValueError(f"expected recorded aggTrade frames in {path}, found none")
    return Recording(tuple(events), skipped)


def _parse_line(line: bytes) -> tuple[dict[str, Any], bytes] | None:
    match = _LINE.match(line)
    if match is None:
        return None
    text = match[1]
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    fields = frame.get("data", frame)
    if not isinstance(fields, dict) or fields.get("e") != "aggTrade":
        return None
    return fields, text if fields is frame else _inner_text(text, fields)


def _inner_text(text: bytes, fields: dict[str, Any]) -> bytes:
    """Return the bytes of the event within its envelope."""
    match = _DATA.search(text)
    candidate = text[match.end() : -1].rstrip() if match else b""
    try:
        if orjson.loads(candidate) == fields:
            return candidate
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps(fields)


def instruments_of(events: Iterable[RecordedEvent]) -> list[Instrument]:
    """Return instruments with as many decimals as the texts of each symbol show."""
    scales: dict[str, tuple[int, int]] = {}
    listed: dict[str, int] = {}
    for event in events:
        price, quantity = scales.get(event.symbol, (0, 0))
        price = max(price, _printed_decimals(event.fields["p"]))
        amounts = (event.fields["q"], event.fields.get("nq", "0"))
        quantity = max(quantity, *map(_printed_decimals, amounts))
        scales[event.symbol] = price, quantity
        trade_time = int(event.fields["T"])
        listed[event.symbol] = min(trade_time, listed.get(event.symbol, trade_time))
    return [
        Instrument(Symbol(name, *_split(name), listed[name], price, quantity))
        for name, (price, quantity) in scales.items()
    ]


def _printed_decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _split(name: str) -> tuple[str, str]:
    pair = name.partition("_")[0]
    for quote in _QUOTES:
        if pair.endswith(quote) and pair != quote:
            return pair.removesuffix(quote), quote
    return pair, "USDT"
