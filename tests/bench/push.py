"""What push costs: 1,000 clients, ten updates a second each, from one process.

The server process runs the real application, hub and pump on loopback, fed by a market that moves
one series per client group and swaps every 100 ms; beside it, in a task of its own, a timer shows
how late anything else in that process would be.  The clients are a second process that does the
least: it reads bytes and takes the time.  Each client follows one series; the delay is from the
beginning of the swap to the moment the clients' process has the frame, on the clock both share.

The baseline, in the same run, is what nobody can be faster than here: the same frames written
straight into as many plain TCP sockets, by the same clients' measure.
Run by ``nox -s bench -- push``.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import trio

from klinetrio.api.app import create_app
from klinetrio.api.hub import PushHub
from klinetrio.httpd import open_listener, serve_http, text_frame
from klinetrio.latency import LatencyHistogram
from tests.api.memory_market import MemoryMarket


SWAP_S = 0.1

# Every client follows this series; its volume tells the swap, and with it when it began.
PATH = "/market/ws/btcusdt@kline_1m"
UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()

TIME = re.compile(rb'"E":([0-9]+),')


def memory_mb() -> float:
    """Return this process's resident memory."""
    status = Path("/proc/self/status").read_text("ascii")
    line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class TimedMarket(MemoryMarket):
    """Tells the time of its swap in microseconds instead of the exchange's."""

    def now_ms(self) -> int:
        """Return the clock that both processes share."""
        return time.monotonic_ns() // 1000


async def watch_timer(lateness: LatencyHistogram) -> None:
    """Note how late a task is that only wants to wake up every millisecond."""
    while True:
        due = trio.current_time() + 0.001
        await trio.sleep_until(due)
        lateness.record(trio.current_time() - due)


class Load:
    """Connected clients in a process of their own."""

    def __init__(self, port: int, options: argparse.Namespace, kind: str) -> None:
        command = ["-m", "tests.bench.push", "--clients", str(options.clients)]
        command += ["--seconds", str(options.seconds), "--load", f"{kind}:{port}"]
        self._process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, text=True, bufsize=1
        )

    async def line(self) -> str:
        """Return the next line that it says."""
        assert self._process.stdout is not None
        return (await trio.to_thread.run_sync(self._process.stdout.readline)).strip()

    async def over(self) -> None:
        """Wait for its end."""
        await trio.to_thread.run_sync(self._process.wait)


async def tick(publish: Any, seconds: float) -> None:
    """Publish every ``SWAP_S``."""
    due = trio.current_time()
    end = due + seconds
    while due < end:
        due += SWAP_S
        await trio.sleep_until(due)
        publish()


def show(
    title: str, sent: int, result: dict[str, Any], spent_s: float, options: argparse.Namespace
) -> None:
    """Print what was measured."""
    elapsed = options.seconds
    due = elapsed / SWAP_S * options.clients
    print(f"{title}: {sent / elapsed:,.0f} messages/s to {options.clients} clients")
    print(f"  sent of what was due        {sent / due:8.1%}   (the rest was conflated)")
    print(
        f"  read of what was due        {result['received'] / due:8.1%}   (by the clients' process)"
    )
    print(f"  delivery p50                {result['p50'] * 1e3:8.1f} ms")
    print(f"  delivery p99                {result['p99'] * 1e3:8.1f} ms   budget 150 ms")
    print(f"  CPU per message             {spent_s / max(1, sent) * 1e6:8.1f} us")
    print(f"  CPU per client              {spent_s / elapsed / options.clients:8.3%} of a core")


async def run_server(options: argparse.Namespace) -> None:
    """Serve the clients, and print what it took."""
    market = TimedMarket()
    hub, shutdown = PushHub(lambda: market, options.clients), trio.Event()
    lateness = LatencyHistogram()
    market.trade(0)
    hub.publish(market.swap())

    def publish() -> None:
        market.trade(0)
        hub.publish(market.swap())

    with open_listener("127.0.0.1:0") as listener:
        async with trio.open_nursery() as nursery:
            app, before = create_app(lambda: market, hub, shutdown), memory_mb()

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_http(
                    app,
                    listener,
                    shutdown=shutdown,
                    max_connections=2 * options.clients,
                    task_status=task_status,
                )

            await nursery.start(serve)
            load = Load(listener.getsockname()[1], options, "websocket")
            await load.line()
            memory = memory_mb() - before
            nursery.start_soon(watch_timer, lateness)
            spent, sent = time.process_time(), hub.statistics().updates
            await tick(publish, options.seconds)
            spent = time.process_time() - spent
            sent = hub.statistics().updates - sent
            result = orjson.loads(await load.line())
            await load.over()
            nursery.cancel_scope.cancel()
    show("push", sent, result, spent, options)
    print(f"  memory per client           {memory * 1024 / options.clients:8.1f} KiB")
    print(f"  lateness of a timer p99     {lateness.percentile(0.99) * 1e3:8.1f} ms")
    print(f"  slow clients {hub.statistics().slow_clients}, encoded {hub.statistics().encoded}")


async def run_baseline(options: argparse.Namespace) -> None:
    """Write frames of the same size straight into plain sockets."""
    streams: list[trio.SocketStream] = []
    swaps: list[int] = []
    is_over = trio.Event()

    async def keep(stream: trio.SocketStream) -> None:
        streams.append(stream)
        await is_over.wait()

    def publish() -> None:
        now = time.monotonic_ns() // 1000
        frame = text_frame(b'{"e":"kline","E":%d,%b}' % (now, b" " * 330))
        for stream in streams:
            os.write(stream.socket.fileno(), frame)
        swaps.append(now)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, keep, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        load = Load(listener.socket.getsockname()[1], options, "plain")
        await load.line()
        spent = time.process_time()
        await tick(publish, options.seconds)
        spent = time.process_time() - spent
        result = orjson.loads(await load.line())
        await load.over()
        is_over.set()
        nursery.cancel_scope.cancel()
    show("baseline: plain sockets", len(swaps) * len(streams), result, spent, options)


async def run_load(options: argparse.Namespace) -> None:
    """Connect, say so, read for the time of the measurement, and print what came when."""
    kind, port = options.load.split(":")
    delays = LatencyHistogram()
    received = connected = 0
    connecting = trio.CapacityLimiter(20)

    async def follow() -> None:
        nonlocal received, connected
        async with connecting:
            stream = await trio.open_tcp_stream("127.0.0.1", int(port))
            if kind == "websocket":
                await stream.send_all(UPGRADE)
                head = bytes(await stream.receive_some())
                if not head.startswith(b"HTTP/1.1 101"):
                    raise OSError(f"expected an upgrade, was {head[:80]!r}")
        connected += 1
        while True:
            data = bytes(await stream.receive_some())
            now = time.monotonic_ns() // 1000
            for match in TIME.finditer(data):
                delays.record((now - int(match[1])) / 1e6)
                received += 1

    async with trio.open_nursery() as nursery:
        for _ in range(options.clients):
            nursery.start_soon(follow)
        while connected < options.clients:
            await trio.sleep(0.05)
        await trio.sleep(0.5)
        delays.take()
        received = 0
        print("connected", flush=True)
        await trio.sleep(options.seconds + 1)
        result = {
            "received": received,
            "p50": delays.percentile(0.5),
            "p99": delays.percentile(0.99),
        }
        print(orjson.dumps(result).decode(), flush=True)
        nursery.cancel_scope.cancel()


async def measure(options: argparse.Namespace) -> None:
    """Measure the server, then the baseline."""
    await run_server(options)
    await run_baseline(options)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    trio.run(run_load if options.load else measure, options)


if __name__ == "__main__":
    main()
