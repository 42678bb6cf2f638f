"""``python -m klinetrio.sim`` as a process."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from subprocess import PIPE

import httpx2
import pytest
import trio


ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="no signals to send on Windows")


@posix
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_prints_urls_serves_and_ends(ending: signal.Signals) -> None:
    """Three lines of URLs; a signal ends it with status 0."""
    command = [sys.executable, "-m", "klinetrio.sim", "--symbols", "3", "--history-minutes", "60"]
    with trio.fail_after(60):  # a cold start of Python on a busy machine
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, command, stdout=PIPE, cwd=ROOT, check=False)
            process = await nursery.start(run)
            output = b""
            while output.count(b"\n") < 3:
                output += await process.stdout.receive_some()
            urls = dict(line.split("=", 1) for line in output.decode().splitlines())
            assert list(urls) == ["rest_url", "ws_url", "proxy_url"]
            async with httpx2.AsyncClient(proxy=urls["proxy_url"], trust_env=False) as client:
                answer = await client.get(f"{urls['rest_url']}/fapi/v1/ping")
                assert answer.json() == {}
            process.send_signal(ending)
            assert await process.wait() == 0
