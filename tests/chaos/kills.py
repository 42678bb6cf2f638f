"""The daemon killed at random instants, again and again, each time restarted on its database.

Nothing else goes wrong, so all that could be wrong in the end is what a kill broke: while it was
starting, taking over the past, folding, writing or repairing.  Exit status 1 if anything is.

Run by ``nox -s chaos -- kills --seed N --kills 100``, over recorded trades with ``--recording PATH``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.chaos.run import Load, run_and_tell
from tests.chaos.schedule import make_kills, make_lives


# About how long a process lives, with the pause before it; and the longest such pause.
_LIFE_S = 5.0
LONGEST_PAUSE_S = 0.5


# How many symbols play a recording: each trades as much as a lively one of the real market.
_RECORDED_SYMBOLS = 4


def make_load(seed: int, *, kills: int, rate: float, recording: Path | None = None) -> Load:
    """Return a load that lasts as long as the kills, on a clock on which that is not too long.

    With less than a hundred minutes of the exchange between the first kill and the last, a symbol
    that no daemon had time to repair can still be repaired by trades.
    """
    seconds = kills * _LIFE_S
    clock_rate = max(1.0, min(20.0, 90 * 60 / seconds))
    return Load(
        seed=seed,
        seconds=seconds,
        symbols=_RECORDED_SYMBOLS if recording else 50,
        rate=rate,
        clock_rate=clock_rate,
        # Connections end by kills alone here.
        connection_life_s=86_400.0,
        recording=recording,
    )


def main() -> int:
    """Run as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description="Killed at random instants; no bar is wrong.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1_000.0, help="trades per second, together")
    parser.add_argument("--recording", type=Path, help="aggTrade frames to be played instead")
    options = parser.parse_args()
    seed, kills = options.seed, options.kills
    return run_and_tell(
        make_load(seed, kills=kills, rate=options.rate, recording=options.recording),
        schedule=make_kills(seed, kills=kills),
        lives=make_lives(seed, count=kills + 1, longest_pause_s=LONGEST_PAUSE_S),
        streams=None,
    )


if __name__ == "__main__":
    sys.exit(main())
