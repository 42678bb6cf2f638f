"""The README's examples of programs written for the exchange, as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.truth import LIMIT_S


pytest.importorskip("ccxt", reason="nox -s clients brings it")

if TYPE_CHECKING:
    from tests.page.daemons import RunningDaemon

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(import .*?|from .*?)```", README.read_text("utf-8"), re.DOTALL)


def test_there_is_one_of_every_library() -> None:
    """None is left out because it is not found."""
    names = ("ccxt", "binance import", "binance_sdk", "unicorn")
    assert [sum(name in each for each in EXAMPLES) for name in names] == [1, 1, 1, 1]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_bars(number: int, daemon: RunningDaemon) -> None:
    """Run literally but for the port."""
    example, address = EXAMPLES[number], daemon.address.removeprefix("http://")
    assert "127.0.0.1:8080" in example
    ended = subprocess.run(
        [sys.executable, "-c", example.replace("127.0.0.1:8080", address)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(re.findall(r"\d{13}", ended.stdout)) >= 2, ended.stdout
