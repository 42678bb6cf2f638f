"""The command: what it takes, what it says, how it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from klinetrio.cli import main
from tests.archive.test_importer import random_trades
from tests.archive.texts import NAMES, write_checksum, write_days


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Leave the logging of other tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("klinetrio").setLevel(logging.NOTSET)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory with two days of trades somewhere below."""
    directory = tmp_path / "data" / "aggTrades"
    directory.mkdir(parents=True)
    write_days(directory, random_trades(2))
    (directory / "notes.txt").write_text("no archive")
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what runs the command, and returns its status and all that it has said."""

    def invoke(*arguments: object) -> tuple[int, str]:
        storage = f"sqlite:///{tmp_path / 'klines.db'}"
        texts = [str(each) for each in arguments]
        result = CliRunner().invoke(main, ["import", *texts, "--storage", storage])
        return result.exit_code, result.output

    return invoke


def test_a_directory_is_searched_and_the_end_summed_up(
    run: Run, tmp_path: Path, files: Path
) -> None:
    """Status 0; what is no archive file is passed by."""
    status, said = run(tmp_path / "data")

    assert status == 0, said
    assert "imported files=2 checksums=0 rows=" in said
    assert "bars_already_proved=0 files_refused=0" in said
    assert 3 == said.count("\n")
    _, again = run(files / NAMES[0], files / NAMES[1], files)
    assert "imported files=2 " in again
    assert "bars_already_proved=0" not in again


def test_klines_of_other_prices_are_passed_by(run: Run, tmp_path: Path, files: Path) -> None:
    """The archive keeps them beside the others, under the same names."""
    for kind in ("indexPriceKlines", "markPriceKlines", "premiumIndexKlines"):
        directory = tmp_path / "data" / kind / "BTCUSDT" / "1m"
        directory.mkdir(parents=True)
        (directory / "BTCUSDT-1m-2026-08.csv").write_text("nobody reads this")
    status, said = run(tmp_path / "data")

    assert status == 0, said
    assert "imported files=2 " in said


def test_a_refused_file_is_named_and_status_1(run: Run, tmp_path: Path, files: Path) -> None:
    """The others are taken."""
    write_checksum(files / NAMES[0], "0" * 64)
    status, said = run(files)

    assert status == 1
    assert f"file_refused file={files / NAMES[0]} reason=" in said
    assert "expected SHA-256 0000" in said
    assert "imported files=1 " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{files}", "--intervals", "1m,7m"], "engine.intervals: expected a list of 1m"),
        (["{files}", "--config", "{files}/none"], "--config: expected a readable file"),
        (["{files}/notes.txt"], "PATH: expected a name like BTCUSDT-aggTrades-2026-08.zip"),
        (["{files}/empty"], "PATH: expected archive files in it"),
        (["{files}/nothing"], "does not exist"),
        ([], "Missing argument 'PATH...'"),
    ],
)
def test_bad_options_are_status_2(
    run: Run, tmp_path: Path, files: Path, arguments: list[str], message: str
) -> None:
    """In one clear line, before anything is written."""
    (files / "empty").mkdir()
    status, said = run(*(each.format(files=files) for each in arguments))

    assert status == 2
    assert message in said
    assert not (tmp_path / "klines.db").exists()


def test_intervals_may_be_chosen(run: Run, tmp_path: Path, files: Path) -> None:
    """Klines of no use for them are passed by."""
    (files / "BTCUSDT-1d-2026-08.csv").write_text("nobody reads this")
    status, said = run(files, "--intervals", "4h, 2h")

    assert status == 0, said
    assert "files_of_unwanted_intervals=1" in said
    assert "bars_written=36 " in said


def test_a_database_that_is_none_is_status_1(run: Run, tmp_path: Path, files: Path) -> None:
    """It is named and left alone."""
    (tmp_path / "klines.db").write_text("Dear diary, today nothing happened. " * 100)
    status, said = run(files)

    assert status == 1
    assert "failed cause=" in said
    assert "not a database" in said


def test_a_month_that_is_not_over_is_refused(run: Run, files: Path) -> None:
    """What was downloaded before its end would be taken for all there was."""
    future = files / "BTCUSDT-aggTrades-2199-12.csv"
    future.write_text((files / NAMES[0]).read_text())

    status, said = run(files)

    assert status == 1
    assert "expected a day or month that is over, ends at 2200-01-01 00:00:00 UTC" in said
    assert "imported files=2 " in said
    assert "files_refused=1" in said
