"""``python -m klinetrio.sim``: the exchange and its proxy, standing alone.

Prints its URLs, one ``name=value`` a line, and runs until SIGINT or SIGTERM.  It is the load
process of the benchmark, and something to point a bot at.
"""

from __future__ import annotations

import gc
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from klinetrio.sim.exchange import open_simulated_exchange
from klinetrio.sim.recorded import RecordedMarket
from klinetrio.sim.seeded import SeededMarket
from klinetrio.sim.socks5 import serve_socks5


if TYPE_CHECKING:
    from klinetrio.sim.market import Market


@click.command("klinetrio.sim")
@click.option("--seed", default=1, show_default=True, help="Decides all prices and trades.")
@click.option("--symbols", default=20, show_default=True, help="How many perpetuals trade.")
@click.option("--rate", default=300.0, show_default=True, help="Trades per second, together.")
@click.option("--history-minutes", default=14_400, show_default=True, help="Age of the listing.")
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Play recorded frames instead.",
)
@click.option("--speed", default=1.0, show_default=True, help="Of the replay.")
@click.option(
    "--shift/--original-times", default=True, show_default=True, help="Replay now, or then."
)
@click.option("--rest-port", default=0, show_default=True, help="0 takes any.")
@click.option("--ws-port", default=0, show_default=True, help="0 takes any.")
@click.option("--proxy-port", default=0, show_default=True, help="0 takes any.")
def main(
    *,
    seed: int,
    symbols: int,
    rate: float,
    history_minutes: int,
    replay: Path | None,
    speed: float,
    shift: bool,
    rest_port: int,
    ws_port: int,
    proxy_port: int,
) -> None:
    """Run the simulated exchange and a SOCKS5 proxy on loopback."""
    # At 20,000 trades a second most objects live for the 100 ms that an event is on its way: long
    # enough for the default thresholds to search all of memory for cycles several times a second.
    gc.set_threshold(100_000, 50, 100)

    async def run() -> None:
        market: Market
        if replay is not None:
            market = RecordedMarket(replay, speed=speed, shifted=shift)
        else:
            market = SeededMarket(
                seed=seed, symbols=symbols, trades_per_second=rate, history_minutes=history_minutes
            )
        await _run(market, rest_port=rest_port, ws_port=ws_port, proxy_port=proxy_port)

    trio.run(run)


async def _run(market: Market, *, rest_port: int, ws_port: int, proxy_port: int) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with (
            open_simulated_exchange(market, rest_port=rest_port, ws_port=ws_port) as exchange,
            trio.open_nursery() as nursery,
        ):
            proxy = await nursery.start(partial(serve_socks5, port=proxy_port))
            urls = {
                "rest_url": exchange.rest_url,
                "ws_url": exchange.ws_url,
                "proxy_url": proxy.url,
            }
            for name, url in urls.items():
                click.echo(f"{name}={url}")  # flushes
            await anext(signals)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main()
