"""How many connections there is room for, in processes whose limits are real."""

from __future__ import annotations

import subprocess
import sys

import pytest


PROGRAM = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from klinetrio.httpd import room_for_connections
print(room_for_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are no descriptors there")
@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1_024, 8_192, ["2048 4096"]),
        (6_000, 8_192, ["2048 6000"]),
        (
            512,
            1_024,
            [
                "few descriptors: limit=1024 connections=512 wanted=2048 (raise it by ulimit -n)",
                "512 1024",
            ],
        ),
    ],
)
def test_descriptors_are_raised_and_halved(soft: int, hard: int, expected: list[str]) -> None:
    """As many as may be, half of them for connections, and a warning if that is not enough."""
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    assert done.stdout.splitlines() == expected
