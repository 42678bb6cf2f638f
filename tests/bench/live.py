"""How the daemon bears a whole market: 500 symbols on 500 connections, 10,000 trades/s.

The load is the simulated exchange in a second process, with its SOCKS5 proxy.  The baseline, in
the same run and on the same load, is the transport alone: the same connections, whose frames are
read and thrown away; what the daemon costs beyond it is decoding, routing and folding.  How late a
task is that only wants to wake up every millisecond then is what the machine itself adds to every
delay.
Run by ``nox -s bench -- live``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from klinetrio.app import Daemon
from klinetrio.config import load_config
from klinetrio.exchange.connection import make_link
from klinetrio.exchange.dial import Dialer, parse_proxy
from klinetrio.exchange.pacer import Pacer
from klinetrio.exchange.transport import open_frames
from klinetrio.latency import LatencyHistogram
from klinetrio.process import settle_heap


def start_load(symbols: int, rate: float) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """Start the exchange; return its process and its URLs."""
    command = ["-m", "klinetrio.sim", "--symbols", str(symbols), "--rate", str(rate)]
    command += ["--history-minutes", "120"]
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    urls = dict(process.stdout.readline().strip().split("=", 1) for _ in range(3))
    return process, urls


def memory_mb() -> float:
    """Return this process's resident memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(each for each in status.read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def run_daemon(urls: dict[str, str], folder: str, options: argparse.Namespace) -> Daemon:
    """Run the daemon, and print what it did while all connections were up."""
    config = load_config(
        overrides={
            "exchange.rest_url": urls["rest_url"],
            "exchange.ws_url": urls["ws_url"],
            "exchange.connects_per_minute": 6_000,
            "proxy.url": urls["proxy_url"],
            "storage.url": f"sqlite:///{folder}/bench.db",
            "api.bind": "127.0.0.1:0",
            # The line of statistics starts the percentiles anew; not while we measure.
            "stats.interval_s": 3_600,
        }
    )
    daemon = Daemon(config)
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.run)
        await settle_heap(daemon.started)
        assert daemon.market is not None
        parts = daemon.market._parts
        # The steady state: taking over the past of all symbols is work of the first two minutes.
        while daemon.market.unready():
            await trio.sleep(0.1)
        await trio.sleep(6)
        parts.engine.delays.take()
        parts.swapper.counts.longest_s = 0.0
        before, cpu, clock = parts.feed.counts.trades, time.process_time(), trio.current_time()
        late = parts.swapper.counts.late
        await trio.sleep(options.seconds)
        trades = parts.feed.counts.trades - before
        spent, elapsed = time.process_time() - cpu, trio.current_time() - clock
        delays = parts.engine.delays
        print(
            f"daemon: {len(parts.links)} connections, {trades / elapsed:,.0f} trades/s for {elapsed:.0f} s"
        )
        print(
            f"  CPU per trade               {spent / trades * 1e6:8.1f} us   (core {spent / elapsed:.0%} busy)"
        )
        print(
            f"  frame to write buffer p50   {delays.percentile(0.50) * 1e3:8.3f} ms   budget 0.5 ms"
        )
        print(
            f"  frame to write buffer p99   {delays.percentile(0.99) * 1e3:8.3f} ms   budget 2 ms"
        )
        print(
            f"  queue high water            {parts.engine.queue_high_water:8d} of 256, dropped {parts.engine.dropped}"
        )
        print(
            f"  late ticks                  {parts.swapper.counts.late - late:8d}, longest {parts.swapper.counts.longest_s * 1e3:.1f} ms"
        )
        print(
            f"  memory                      {memory_mb():8.0f} MB   budget 200 MB with 1,000 symbols"
        )
        counts = parts.engine.counts()
        print(
            f"  gaps {counts.gaps}, duplicates {counts.duplicates}, bad frames {dict(parts.feed.counts.bad)}"
        )
        daemon.stop.set()
    return daemon


async def run_transport(urls: dict[str, str], symbols: Any, seconds: float) -> None:
    """Read the same load and throw it away; print what that costs."""
    frames = 0
    connected = 0
    pacer = Pacer(6_000)
    dialer = Dialer(parse_proxy(urls["proxy_url"]))

    async def read(url: str) -> None:
        nonlocal frames, connected
        await pacer.wait()
        async with open_frames(url, dialer) as stream:
            connected += 1
            while True:
                await stream.receive()
                frames += 1

    lateness = LatencyHistogram()

    async def wake() -> None:
        while True:
            due = trio.current_time() + 0.001
            await trio.sleep_until(due)
            lateness.record(trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        for symbol in symbols:
            nursery.start_soon(read, make_link(urls["ws_url"], [symbol]).url)
        while connected < len(symbols):
            await trio.sleep(0.1)
        await trio.sleep(3)
        before, cpu = frames, time.process_time()
        nursery.start_soon(wake)
        await trio.sleep(seconds)
        cost = (time.process_time() - cpu) / max(1, frames - before)
        nursery.cancel_scope.cancel()
    print("baseline: the transport alone on the same load")
    print(f"  CPU per frame               {cost * 1e6:8.1f} us")
    print(f"  lateness of a timer p50     {lateness.percentile(0.50) * 1e3:8.3f} ms")
    print(f"  lateness of a timer p99     {lateness.percentile(0.99) * 1e3:8.3f} ms")


async def measure(options: argparse.Namespace) -> None:
    """Run daemon and baseline against one load."""
    process, urls = await trio.to_thread.run_sync(start_load, options.symbols, options.rate)
    try:
        with tempfile.TemporaryDirectory() as folder:
            daemon = await run_daemon(urls, folder, options)
        assert daemon.market is not None
        await run_transport(urls, daemon.market.symbols, min(10.0, options.seconds))
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    trio.run(measure, options)


if __name__ == "__main__":
    main()
