"""``python -m klinetrio run`` on a clock that runs fast; configured by the environment.

A process of its own, so that it can be killed.  Its argument is the clock's rate.
"""

from __future__ import annotations

import os
import sys

from klinetrio.cli import run_daemon
from klinetrio.config import load_config
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.logs import setup_logging
from klinetrio.process import run_to_the_end


def main() -> None:
    """Run until a signal says stop."""
    config = load_config(environment=os.environ)
    setup_logging(config.log.level)
    run_to_the_end(lambda: run_daemon(config, ExchangeClock(rate=float(sys.argv[1]))))


if __name__ == "__main__":
    main()
