"""The command line.

Exit status: 0 after an orderly stop, 2 for a configuration error, 1 for a failure that a restart
of the parts could not mend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from klinetrio import __version__
from klinetrio.app import Daemon
from klinetrio.config import Config, default_file
from klinetrio.logs import setup_logging
from klinetrio.process import run_to_the_end, settle_heap, stop_on_signal
from klinetrio.tools.audit import audit
from klinetrio.tools.backfill import backfill
from klinetrio.tools.copying import copy
from klinetrio.tools.doctor import doctor
from klinetrio.tools.export import export
from klinetrio.tools.importing import import_files
from klinetrio.tools.query import query
from klinetrio.tools.settings import takes_settings


if TYPE_CHECKING:
    from klinetrio.exchange.clock import ExchangeClock


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="klinetrio")
@click.pass_context
def main(context: click.Context) -> None:
    """Turn an exchange's trade stream into exact klines, live.

    Without a command it runs the daemon, as `run` does.
    """
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@takes_settings("symbols", "proxy", "storage", "bind", "log_level")
def run(config: Config) -> None:
    """Run the daemon until SIGINT or SIGTERM."""
    run_to_the_end(lambda: run_daemon(config))


@main.command()
@click.option("--bind", default="127.0.0.1:8080", show_default=True, help="host:port to serve on.")
@click.option("--symbols", default=20, show_default=True, type=click.IntRange(20, 1000))
@click.option(
    "--rate",
    default=300,
    show_default=True,
    type=click.IntRange(1, 20_000),
    help="Trades per second.",
)
@click.option("--seed", default=1, show_default=True, help="Of the simulated market.")
@click.option(
    "--storage",
    help="As sqlite:///demo.db: keep the database there instead of throwing it away.  Every start"
    " is another market, which the daemon takes for the same one with another past.",
)
def demo(bind: str, symbols: int, rate: int, seed: int, storage: str | None) -> None:
    """Run the whole of it against a simulated exchange; needs no network.

    Its settings are these options alone: configuration files and environment play no part.
    """
    from klinetrio.demo import run_demo  # noqa: PLC0415  (the daemon never loads the simulator)

    setup_logging("info")
    run_to_the_end(
        lambda: run_demo(bind=bind, symbols=symbols, rate=rate, seed=seed, storage=storage)
    )


@main.command()
def config() -> None:
    """Print the commented default configuration, to start a file of one's own from."""
    click.echo(default_file().read_text("utf-8"), nl=False)


main.add_command(backfill)
main.add_command(audit)
main.add_command(import_files)
main.add_command(export)
main.add_command(query)
main.add_command(doctor)
main.add_command(copy)


async def run_daemon(config: Config, clock: ExchangeClock | None = None) -> None:
    """Run the daemon until a signal says stop.

    Args:
        config: The configuration.
        clock: Another clock than the default, for simulated exchanges that run fast.
    """
    daemon = Daemon(config, clock)
    async with trio.open_nursery() as nursery:
        # Before anything says that it serves: who reads that may want it to stop.
        await nursery.start(stop_on_signal, daemon.stop)
        nursery.start_soon(settle_heap, daemon.started)
        await daemon.run()
        nursery.cancel_scope.cancel()
