"""Keeps a daemon running on one database: started, killed, started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from tests.e2e.processes import environment_of


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from klinetrio.sim.clock import SimClock
    from tests.chaos.schedule import Life

_PROGRAM = str(Path(__file__).with_name("chaos_daemon.py"))

# An age that no session of a run reaches.
_NEVER_S = 1e9

# Log lines that show a bug, whatever came of it.
_BUGS = ("restarting_after_bug", "Traceback", " failed cause=")


@attrs.define(eq=False)
class Running:
    """One process.

    Attributes:
        number: 0 for the first one.
        serving: Set once it says where it serves, or has ended before that.
        address: Where that is.
        gone: Set when it has ended.
        last_line: Of its log.
        expected: The exit statuses that it was asked for.
    """

    number: int
    process: trio.Process
    serving: trio.Event = attrs.field(factory=trio.Event)
    address: str = ""
    gone: trio.Event = attrs.field(factory=trio.Event)
    last_line: str = ""
    expected: set[int] = attrs.field(factory=set)


@attrs.define(eq=False)
class Keeper:
    """Starts daemons one after the other; ended by ``finish``.

    Args:
        settings: Of all of them.
        clock: The exchange's clock.
        lives: How each process is; the last one serves for all that come after.
        renew_after_s: Age at which sessions are succeeded in lives that do so.
        log_path: Where their logs go.

    Attributes:
        kills: How many were killed.
        stops: How many were stopped in order, the last one left out.
        troubles: What no daemon may do: end by itself, or run into a bug.
    """

    settings: Mapping[str, Any]
    clock: SimClock
    lives: Sequence[Life]
    renew_after_s: float
    log_path: Path
    kills: int = 0
    stops: int = 0
    troubles: list[str] = attrs.field(factory=list)
    _running: Running | None = None
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _finishing: bool = False
    _started: int = 0

    async def current(self, *, after: int = -1) -> Running:
        """Wait for a process with a higher number than ``after``, and return it."""
        while self._running is None or self._running.number <= after:
            await self._changed.wait()
        return self._running

    async def kill(self, *, after_s: float = 0.0, serving: bool = False) -> None:
        """Kill the daemon, or the next one if there is none just now.

        Args:
            after_s: How long to wait with it.
            serving: Whether to wait for it to serve before that.
        """
        running = await self.current()
        if serving:
            await running.serving.wait()
        await trio.sleep(after_s)
        self.kills += 1
        await self._end(running, signal.SIGKILL, -signal.SIGKILL)

    async def stop(self) -> None:
        """Stop the daemon in order, once it serves."""
        running = await self.current()
        await running.serving.wait()
        if running.gone.is_set():
            # Killed before it served.
            return await self.stop()
        self.stops += 1
        return await self._end(running, signal.SIGTERM, 0)

    async def finish(self) -> None:
        """Stop the daemon in order and start no more."""
        running = await self.current()
        self._finishing = True
        await self._end(running, signal.SIGTERM, 0)

    async def _end(self, running: Running, number: signal.Signals, expected: int) -> None:
        running.expected.add(expected)
        running.process.send_signal(number)
        await running.gone.wait()

    async def run(self) -> None:
        """Keep a daemon running until ``finish``.

        Cancellation: the daemon is killed.
        """
        with self.log_path.open("ab") as log:
            while not self._finishing:
                life = self.lives[min(self._started, len(self.lives) - 1)]
                await trio.sleep(life.pause_s)
                await self._live(life, log)

    async def _live(self, life: Life, log: Any) -> None:
        running = Running(self._started, await self._spawn(life))
        self._started += 1
        self._enter(running)
        try:
            await self._read_log(running, log)
            status = await running.process.wait()
        finally:
            if running.process.poll() is None:
                running.process.kill()
        if status not in running.expected:
            if not running.address:
                # Nor will the next one serve, and everybody would wait for it.
                raise RuntimeError(
                    f"expected daemon {running.number} to serve, and it ended with status {status}:"
                    f" {running.last_line}"
                )
            self.troubles.append(f"daemon {running.number} ended by itself with status {status}")
        self._enter(None)
        # Whoever waits for either goes on.
        running.serving.set()
        running.gone.set()

    def _enter(self, running: Running | None) -> None:
        self._running = running
        self._changed.set()
        self._changed = trio.Event()

    async def _spawn(self, life: Life) -> trio.Process:
        numbers = (
            self.clock.rate,
            self.clock.now_ms(),
            time.time(),
            life.skew_s,
            self.renew_after_s if life.renews else _NEVER_S,
        )
        return await trio.lowlevel.open_process(
            [sys.executable, _PROGRAM, *map(repr, numbers)],
            env=environment_of(self.settings),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    async def _read_log(self, running: Running, log: Any) -> None:
        rest = b""
        assert running.process.stderr is not None
        async with running.process.stderr:
            async for chunk in running.process.stderr:
                log.write(chunk)
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    self._note(running, line.decode(errors="replace"))

    def _note(self, running: Running, line: str) -> None:
        running.last_line = line[:300]
        if " serving address=" in line:
            running.address = line.partition("address=")[2].split(maxsplit=1)[0]
            running.serving.set()
        if any(bug in line for bug in _BUGS):
            self.troubles.append(f"daemon {running.number}: {line[:300]}")
