"""The daemon on a clock that runs fast and a machine whose own clock is off.

A process of its own, so that it can be killed; configured by the environment.  Its arguments are the
exchange's rate, a moment of the exchange (ms) and of this machine (s) that were the same, how far
the wall clock is ahead (s), and the age at which sessions are succeeded (s; the 22 hours scaled
down).
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from unittest.mock import patch

from klinetrio import assembly
from klinetrio.cli import run_daemon
from klinetrio.config import load_config
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.connection import FeedContext
from klinetrio.logs import setup_logging
from klinetrio.process import run_to_the_end


def main() -> None:
    """Run until a signal says stop."""
    rate, exchange_ms, machine_s, skew_s, renew_after_s = map(float, sys.argv[1:])
    config = load_config(environment=os.environ)
    setup_logging(config.log.level)

    def wall() -> float:
        return exchange_ms / 1000 + (time.time() - machine_s) * rate + skew_s

    with patch.object(assembly, "FeedContext", partial(FeedContext, renew_after_s=renew_after_s)):
        run_to_the_end(lambda: run_daemon(config, ExchangeClock(rate, wall)))


if __name__ == "__main__":
    main()
