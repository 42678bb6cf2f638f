"""What goes wrong, and when: a pure function of the seed.

Times are seconds of this machine, from when the first daemon is ready.  Every kind of fault happens at least
once, however short the run is; none lasts beyond its end.
"""

from __future__ import annotations

from random import Random

import attrs

from klinetrio.sim.faults import FaultPlan


@attrs.frozen
class Kind:
    """How often a kind of fault happens, and to what extent.

    Attributes:
        every_s: Mean time between two of them.
        symbols: How many symbols one hits, at most; 0 if it is not about symbols.
        for_s: Shortest and longest duration.
        number: Least and most of whatever the kind counts, drawn by magnitude.
    """

    every_s: float
    symbols: int = 0
    for_s: tuple[float, float] = (0.0, 0.0)
    number: tuple[int, int] = (0, 0)


# What is counted: lost frames, bytes of a tunnel, REST calls.  Losses of more than 5,000 ids are
# mended by klines, fewer by trades.  A silence is found by pings after 25 s, a deaf stream by its
# symbol's own pace; shorter ones end by themselves.  Two minutes at 500 trades/s of a single symbol
# is the most that one of them can cost.
KINDS = {
    "reset": Kind(3.0, symbols=4),
    "reset_all": Kind(45.0),
    "close": Kind(4.0, symbols=4),
    "close_all": Kind(60.0),
    "notice": Kind(12.0, symbols=6),
    "silence": Kind(15.0, symbols=3, for_s=(2.0, 35.0)),
    "deaf": Kind(15.0, symbols=3, for_s=(2.0, 45.0)),
    "hold_back": Kind(4.0, symbols=8, for_s=(0.2, 3.0)),
    "lose": Kind(5.0, symbols=4, number=(1, 8_000)),
    "proxy_refuse": Kind(40.0, for_s=(0.5, 4.0)),
    "proxy_stall": Kind(40.0, for_s=(0.5, 5.0)),
    "proxy_stall_greeted": Kind(40.0, for_s=(0.5, 5.0)),
    "proxy_slow": Kind(40.0, for_s=(1.0, 6.0)),
    "proxy_cut": Kind(40.0, for_s=(0.5, 4.0), number=(100, 50_000)),
    "tunnels_cut": Kind(50.0),
    "rest_429": Kind(15.0, for_s=(1.0, 6.0), number=(1, 12)),
    "rest_418": Kind(50.0, for_s=(1.0, 6.0), number=(1, 4)),
    "rest_503": Kind(15.0, for_s=(1.0, 6.0), number=(1, 20)),
    "rest_garbage": Kind(20.0, for_s=(1.0, 6.0), number=(1, 8)),
    "rest_silence": Kind(50.0, for_s=(1.0, 6.0), number=(1, 3)),
}


@attrs.frozen(order=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at_s: When.
        kind: One of ``KINDS``, or ``kill`` or ``stop``.
        symbols: Which symbols, by rank of liveliness.
        for_s: For how long.
        number: How many of what the kind counts.
    """

    at_s: float
    kind: str
    symbols: tuple[int, ...] = ()
    for_s: float = 0.0
    number: int = 0

    def __str__(self) -> str:
        parts = [self.kind]
        if self.symbols:
            parts.append("symbols=" + ",".join(map(str, self.symbols)))
        if self.for_s:
            parts.append(f"for_s={self.for_s:.1f}")
        if self.number:
            parts.append(f"number={self.number}")
        return " ".join(parts)


@attrs.frozen
class Life:
    """How one process of the daemon is.

    Attributes:
        skew_s: How far its machine's wall clock is ahead of the exchange's.
        renews: Whether it succeeds its connections before the exchange ends them.
        pause_s: How long after the one before it starts.
    """

    skew_s: float
    renews: bool
    pause_s: float


def make_schedule(
    seed: int, *, seconds: float, symbols: int, kills: int, stops: int
) -> list[Fault]:
    """Return all faults of a run, by time.

    Args:
        seed: Decides everything.
        seconds: How long the run is.
        symbols: How many symbols trade.
        kills: How often the daemon is killed.
        stops: How often it is stopped in order.
    """
    faults = []
    for name, kind in KINDS.items():
        # Of its own, so that another kind more or less changes nothing for this one.
        rng = Random(f"{seed} {name}")
        count = max(1, round(seconds / kind.every_s))
        faults += [_draw(name, kind, rng, seconds=seconds, symbols=symbols) for _ in range(count)]
    rng = Random(f"{seed} ends")
    for name, count in (("kill", kills), ("stop", stops)):
        faults += [Fault(seconds * rng.uniform(0.1, 0.9), name) for _ in range(count)]
    return sorted(faults)


def _draw(name: str, kind: Kind, rng: Random, *, seconds: float, symbols: int) -> Fault:
    at_s = seconds * rng.uniform(0.02, 0.95)
    chosen = rng.sample(range(symbols), rng.randint(1, min(kind.symbols, symbols) or 1))
    least, most = kind.number
    return Fault(
        at_s,
        name,
        tuple(sorted(chosen)) if kind.symbols else (),
        min(rng.uniform(*kind.for_s), seconds - at_s),
        int(least * (most / least) ** rng.random()) if least else 0,
    )


# Of kills alone: one in four comes while the daemon starts, the others while it restores, repairs,
# folds and writes, counted from when it serves, so that a slow machine does not only see starts.
_KILLED_EARLY = 0.25
_EARLY_S = 2.0
_LATE_S = 6.0


def make_kills(seed: int, *, kills: int) -> list[Fault]:
    """Return nothing but kills, one after the other.

    Each comes ``for_s`` after its process was started, or after it served if ``number`` is 1.
    """
    rng = Random(f"{seed} kills")
    faults = []
    for _ in range(kills):
        early = rng.random() < _KILLED_EARLY
        wait_s = rng.uniform(0.0, _EARLY_S if early else _LATE_S)
        faults.append(Fault(0.0, "kill", for_s=wait_s, number=int(not early)))
    return faults


def make_lives(seed: int, *, count: int, longest_pause_s: float) -> list[Life]:
    """Return how each process of a run is; the last one succeeds its connections in time."""
    rng = Random(f"{seed} lives")
    lives = [
        Life(rng.choice((-2.0, 2.0)), rng.choice((True, False)), rng.uniform(0.0, longest_pause_s))
        for _ in range(count)
    ]
    return [*lives[:-1], attrs.evolve(lives[-1], renews=True)]


def make_stream_plan(seed: int) -> FaultPlan:
    """Return what happens to frames by chance.

    The delays are long enough to bring a trade minutes of the exchange's time after its bar ended.
    """
    rng = Random(f"{seed} frames")
    return FaultPlan(
        seed=seed,
        drop=rng.uniform(0.001, 0.01),
        duplicate=rng.uniform(0.005, 0.02),
        reorder=rng.uniform(0.005, 0.02),
        delay=rng.uniform(0.005, 0.02),
        garbage=rng.uniform(0.001, 0.005),
        delay_s=(0.01, rng.uniform(2.0, 8.0)),
    )
