"""An exchange, and a daemon that can be killed and started again, from plain functions."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx2
import orjson
import pytest

from tests.e2e.processes import ROOT, environment_of


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# An exchange's minute in six seconds.
RATE = "10"
LIMIT_S = 180.0


@attrs.define
class RunningDaemon:
    """A daemon that keeps its address however often it is started.

    Attributes:
        settings: By dotted key.
        log: Where its lines go.
        address: Where it serves.
        process: It, while it runs.
    """

    settings: dict[str, Any]
    log: Path
    address: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves; it may be long until it has started."""
        written = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests/e2e/fast_daemon.py"), RATE],
                env=environment_of(self.settings),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        end = time.monotonic() + LIMIT_S
        while b" serving address=" not in (told := self.log.read_bytes()[written:]):
            assert time.monotonic() < end, told.decode()
            assert self.process.poll() is None, told.decode()
            time.sleep(0.05)
        self.address = told.split(b" serving address=")[1].split()[0].decode()
        self.settings["api.bind"] = self.address.removeprefix("http://")

    def kill(self) -> None:
        """End it without a warning."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def get(self, path: str, **params: Any) -> Any:
        """Return the answer to a GET; a busy daemon is asked again."""
        return self._answer(path, {200}, params)

    def _answer(self, path: str, statuses: set[int], params: dict[str, Any]) -> Any:
        end = time.monotonic() + LIMIT_S
        url = f"{self.address}{path}"
        while True:
            reply = httpx2.get(url, params=params, timeout=60, trust_env=False)
            if reply.status_code in statuses:
                return reply.json()
            assert reply.status_code == 503, reply.text
            assert time.monotonic() < end, reply.text
            time.sleep(0.1)

    def until_ready(self) -> None:
        """Wait until it says that it is ready."""
        self.until(lambda: self._answer("/readyz", {200, 503}, {}).get("status") == "ready")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > end:
                pytest.fail(self.log.read_text("utf-8")[-4000:])
            time.sleep(0.1)


@contextmanager
def running_exchange() -> Iterator[Mapping[str, Any]]:
    """Run the exchange for the length of the block; return the settings of a daemon."""
    command = [sys.executable, str(Path(__file__).parent / "fast_exchange.py"), RATE]
    with subprocess.Popen(
        command, env=environment_of({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield orjson.loads(process.stdout.readline())
        finally:
            process.kill()
