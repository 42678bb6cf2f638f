"""Faults of the trade streams: what is lost, doubled, late, out of order or garbage.

Whatever happens here happens to frames only: REST always has the trades.

Invariants:
  I1  a frame suffers at most one fault; without faults it passes in the same call.
  I2  the same seed and the same frames give the same faults.
  I3  at most MAX_HELD frames are delayed, and one per symbol held for reordering; any further
      one passes at once.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING

import attrs
import trio


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.sim.market import Deliver, Frame

# 10,000 frames of 300 bytes: 3 MB.
MAX_HELD = 10_000

# Nothing here could be taken for a trade, however hard one tries.
GARBAGE = (
    "not json",
    "",
    "null",
    "[]",
    '{"e":"aggTrade"',
    '{"e":"aggTrade","s":"BTCUSDT"}',
    '{"stream":"btcusdt@aggTrade","data":null}',
    '{"e":"aggTrade","E":1,"a":"x","s":"BTCUSDT","p":"NaN","q":"-1","f":1,"l":1,"T":1,"m":0}',
    '{"e":"somethingElse","E":1}',
    "[" * 600,
)


def _is_probability(_: FaultPlan, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name}: expected a probability, was {value}")


@attrs.frozen(kw_only=True)
class FaultPlan:
    """How often each fault happens to a frame.

    Attributes:
        seed: Decides which frames are hit.
        drop: Probability that a frame is never sent.
        duplicate: ... that it is sent twice.
        reorder: ... that it is sent after the next one of its symbol (or after ``hold_s``).
        delay: ... that it is sent ``delay_s`` later, others overtaking it.
        garbage: ... that garbage is sent before it.
        delay_s: Shortest and longest delay.
        hold_s: How long a frame waits for the next one of its symbol.
    """

    seed: int = 0
    drop: float = attrs.field(default=0.0, validator=_is_probability)
    duplicate: float = attrs.field(default=0.0, validator=_is_probability)
    reorder: float = attrs.field(default=0.0, validator=_is_probability)
    delay: float = attrs.field(default=0.0, validator=_is_probability)
    garbage: float = attrs.field(default=0.0, validator=_is_probability)
    delay_s: tuple[float, float] = (0.05, 0.5)
    hold_s: float = 1.0

    def __attrs_post_init__(self) -> None:
        total = sum(share for _, share in self.shares())
        if total > 1:
            raise ValueError(f"expected probabilities of at most 1 together, was {total}")

    def shares(self) -> list[tuple[str, float]]:
        """Return each fault and its probability."""
        names = ("drop", "duplicate", "reorder", "delay", "garbage")
        return [(name, getattr(self, name)) for name in names]

    def pick(self, roll: float) -> str | None:
        """Return the fault that a roll in [0, 1) stands for."""
        for name, share in self.shares():
            roll -= share
            if roll < 0:
                return name
        return None


class FaultyFeed:
    """Stands between the market and the hub.

    Args:
        plan: What goes wrong by chance.
        publish: Where frames go.
        inject: Where garbage goes.

    Attributes:
        counts: Faults that happened, by name.
    """

    def __init__(
        self, plan: FaultPlan, publish: Deliver, inject: Callable[[str, str], None]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._is_faultless = not any(share for _, share in plan.shares())
        self._rng = Random(plan.seed)
        self._garbage = itertools.cycle(GARBAGE)
        self._publish = publish
        self._inject = inject
        self._to_lose: defaultdict[str, int] = defaultdict(int)
        # Frames to be sent later: (when, order of arrival, frame, whether it is held).
        self._late: list[tuple[float, int, Frame, bool]] = []
        self._order = itertools.count()
        self._held: dict[str, Frame] = {}
        # When what is held back of a symbol is sent, on Trio's clock.
        self._held_back: dict[str, float] = {}
        self._wake = trio.Event()

    def calm(self) -> None:
        """Let no further frame suffer anything; what is late already stays late."""
        self._is_faultless = True
        self._to_lose.clear()
        self._held_back.clear()

    def lose(self, symbol: str, count: int) -> None:
        """Let the next ``count`` frames of a symbol get lost."""
        self._to_lose[symbol] += count

    def hold_back(self, symbol: str, seconds: float) -> None:
        """Send the frames of a symbol only when so many seconds are over, in their order."""
        self._held_back[symbol] = trio.current_time() + seconds

    def deliver(self, frame: Frame) -> None:
        """Pass a frame on, or do to it what the plan says."""
        if self._to_lose[frame.symbol]:
            self._to_lose[frame.symbol] -= 1
            self.counts["lost"] += 1
        elif frame.symbol in self._held_back and self._keep(frame):
            self.counts["held_back"] += 1
        elif self._is_faultless:
            self._publish(frame)
        elif (fault := self._plan.pick(self._rng.random())) is None:
            self._pass(frame)
        else:
            self.counts[fault] += 1
            self._suffer(fault, frame)

    def _keep(self, frame: Frame) -> bool:
        """Hold a frame back if its symbol still is, and if there is room; tell whether so."""
        due = self._held_back[frame.symbol]
        if due <= trio.current_time():
            del self._held_back[frame.symbol]
            return False
        if len(self._late) >= MAX_HELD:
            return False
        self._put_late(frame, due, held=False)
        return True

    def _suffer(self, fault: str, frame: Frame) -> None:
        match fault:
            case "drop":
                return
            case "reorder" if frame.symbol not in self._held:
                self._held[frame.symbol] = frame
                self._send_later(frame, self._plan.hold_s, held=True)
                return
            case "delay" if len(self._late) < MAX_HELD:
                self._send_later(frame, self._rng.uniform(*self._plan.delay_s), held=False)
                return
            case "duplicate":
                self._publish(frame)
            case "garbage":
                self._inject(frame.symbol, next(self._garbage))
        self._pass(frame)

    def _pass(self, frame: Frame) -> None:
        self._publish(frame)
        overtaken = self._held.pop(frame.symbol, None)
        if overtaken is not None:
            self._publish(overtaken)

    def _send_later(self, frame: Frame, delay_s: float, *, held: bool) -> None:
        self._put_late(frame, trio.current_time() + delay_s, held=held)

    def _put_late(self, frame: Frame, due: float, *, held: bool) -> None:
        heapq.heappush(self._late, (due, next(self._order), frame, held))
        self._wake.set()

    async def run(self) -> None:
        """Send what was held back, when its time has come; for ever."""
        while True:
            self._wake = trio.Event()
            if not self._late:
                await self._wake.wait()
                continue
            with trio.move_on_at(self._late[0][0]):
                await self._wake.wait()
            while self._late and self._late[0][0] <= trio.current_time():
                _, _, frame, held = heapq.heappop(self._late)
                if not held:
                    self._publish(frame)
                elif self._held.get(frame.symbol) is frame:
                    self._publish(self._held.pop(frame.symbol))
