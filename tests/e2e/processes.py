"""Daemons in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx2
import trio


if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Mapping

ROOT = Path(__file__).parents[2]


def environment_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as environment variables, on top of ours."""
    variables = {
        f"KLINETRIO_{key.replace('.', '_').upper()}": str(value) for key, value in settings.items()
    }
    ours = {name: value for name, value in os.environ.items() if not name.startswith("KLINETRIO_")}
    return {**ours, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}


@attrs.define
class DaemonProcess:
    """A daemon that can be asked and killed."""

    process: trio.Process
    lines: list[str]
    client: httpx2.AsyncClient
    _grown: trio.Event = attrs.field(factory=trio.Event)

    async def read_log(self, task_status: trio.TaskStatus[str]) -> None:
        """Collect the log; started with the address once the daemon serves."""
        rest = b""
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                self.lines.append(line.decode())
                if " serving address=" in self.lines[-1]:
                    task_status.started(self.lines[-1].split("address=")[1].split()[0])
            self._grown.set()
            self._grown = trio.Event()

    async def logged(self, text: str) -> str:
        """Wait for a log line that contains ``text`` and return it."""
        while True:
            for line in self.lines:
                if text in line:
                    return line
            await self._grown.wait()

    async def get(self, path: str, **params: Any) -> Any:
        """Return the answer to a GET."""
        response = await self.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    async def until_ready(self) -> None:
        """Wait until the daemon says that it is ready."""
        while (await self.client.get("/readyz")).status_code != 200:
            await trio.sleep(0.05)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def daemon_process(
    settings: Mapping[str, Any], *command: str
) -> AsyncIterator[DaemonProcess]:
    """Run a daemon for the length of the block; killed at the end if it still runs.

    Args:
        settings: By dotted key.
        command: What to run, after the interpreter.
    """
    async with trio.open_nursery() as nursery:
        start = partial(
            trio.run_process,
            [sys.executable, *command],
            env=environment_of(settings),
            stdin=b"",
            stderr=subprocess.PIPE,
            check=False,
        )
        process = await nursery.start(start)
        daemon = DaemonProcess(process, [], httpx2.AsyncClient(trust_env=False, timeout=60))
        daemon.client.base_url = httpx2.URL(await nursery.start(daemon.read_log))
        try:
            yield daemon
        except BaseException:
            # What went wrong is in there, most often; the process may have ended by itself.
            log = "\n".join(daemon.lines[-100:])
            sys.stderr.write(f"daemon ended with {process.poll()}; its log:\n{log}\n")
            raise
        finally:
            if process.poll() is None:
                process.kill()
            await daemon.client.aclose()
