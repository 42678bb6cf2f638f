"""A market that plays recorded frames.

At original times the exchange's clock stands still at the first frame until playback starts; when
shifted, it shows the present from the start and only ``E`` and ``T`` of the frames are changed.
The speed is the rate of the clock.

Invariants:
  I1  frames are sent in the order of the file, each when the clock reaches its time.
  I2  a frame is sent as it was recorded, twice if it was recorded twice; the ledger has each
      trade once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import trio

from klinetrio.domain.decimals import parse_scaled
from klinetrio.sim.clock import SimClock
from klinetrio.sim.ledger import Book, Ledger
from klinetrio.sim.market import Deliver, Frame, Judge
from klinetrio.sim.recording import RecordedEvent, instruments_of, read_recording
from klinetrio.sim.tape import SimTrade


if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from klinetrio.domain.symbol import Symbol
    from klinetrio.sim.instruments import Instrument

# At a speed that nothing could keep up with, others still get their turn after so many frames.
_FRAMES_PER_TURN = 100

_TIMES = re.compile(rb'("[ET]"\s*:\s*)(\d+)')


class RecordedMarket(Judge):
    """Recorded aggTrade frames, played once.

    Args:
        path: The file (see ``recording``).
        speed: How much faster than it happened.
        shifted: Whether it is to happen now instead of then.
        start_when_subscribed: Whether to wait until each of its symbols has a subscriber, so
            that no frame is missed; else playback starts with the exchange.
        instruments: Instead of those guessed from the texts in the file.

    Attributes:
        ready: Set to start playback; set by itself as ``start_when_subscribed`` says.
        finished: Set when the last frame was delivered; the streams are silent from then on.
        skipped: Lines of the file that are no aggTrade event.
    """

    def __init__(
        self,
        path: Path,
        *,
        speed: float = 1.0,
        shifted: bool = False,
        start_when_subscribed: bool = True,
        instruments: Iterable[Instrument] | None = None,
    ) -> None:
        recording = read_recording(path)
        self._events = recording.events
        self.skipped = recording.skipped
        self._shifted = shifted
        start = None if shifted else self._events[0].due
        self.clock = SimClock(start, speed, held=not shifted)
        listed = list(instruments_of(self._events) if instruments is None else instruments)
        self.ledger = Ledger(self.clock, (Book(each) for each in listed))
        self._unsubscribed = set(recording.symbols)
        self.ready = trio.Event()
        self.finished = trio.Event()
        if not start_when_subscribed:
            self.ready.set()

    def subscribed(self, symbol: str) -> None:
        """Start playback once every symbol has a subscriber."""
        self._unsubscribed.discard(symbol)
        if not self._unsubscribed:
            self.ready.set()

    async def run(
        self, deliver: Deliver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Play the file, once ``ready``."""
        task_status.started()
        await self.ready.wait()
        shift = self.clock.now_ms() - self._events[0].due if self._shifted else 0
        if self.clock.held:
            self.clock.release()
        for count, event in enumerate(self._events):
            due = event.due + shift
            if self.clock.now_ms() < due:
                await trio.sleep_until(self.clock.trio_time_of(due))
            elif count % _FRAMES_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            self._play(event, shift, deliver)
        self.finished.set()

    def _play(self, event: RecordedEvent, shift: int, deliver: Deliver) -> None:
        book = self.ledger.book(event.symbol)
        trade = read_trade(event.fields, book.instrument.symbol)
        payload = event.payload
        if shift:
            trade = trade._replace(time=trade.time + shift)
            payload = _TIMES.sub(lambda m: m[1] + b"%d" % (int(m[2]) + shift), payload)
        book.enter(trade)
        deliver(Frame(event.symbol, trade.agg_id, payload))


def read_trade(fields: dict[str, Any], symbol: Symbol) -> SimTrade:
    """Return the trade of an event, at the scales of its symbol."""
    quantity = parse_scaled(fields["q"], symbol.quantity_scale)
    # Recordings from before 2026 do not have the part without RPI orders.
    normal = parse_scaled(fields.get("nq", fields["q"]), symbol.quantity_scale)
    return SimTrade(
        agg_id=fields["a"],
        price=parse_scaled(fields["p"], symbol.price_scale),
        quantity=quantity,
        normal_quantity=normal,
        first_id=fields["f"],
        last_id=fields["l"],
        time=fields["T"],
        buyer_is_maker=fields["m"],
    )
