"""Exports: exact, whole or not at all, beside whoever writes."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio
from click.testing import CliRunner

from klinetrio.cli import main
from klinetrio.config import load_config
from klinetrio.domain.interval import MINUTE
from klinetrio.errors import ConfigError, ExportError, ScalesChanged, StoreError
from klinetrio.formats import arrow_files
from klinetrio.formats.encoder import make_encoder
from klinetrio.tools import export, stored
from klinetrio.tools.export import Order, run_export
from tests.e2e.processes import ROOT
from tests.storage.bars import NOTHING, bar, batch
from tests.tools.databases import REGISTRY, START, SYMBOLS, filled


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klinetrio.storage.sqlite import SqliteStore

LIMIT_S = 300.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Return a database that somebody keeps open and goes on writing."""
    store = filled(tmp_path / "klines.db")
    yield store
    store.close()


def order(folder: Path, form: str, **changes: Any) -> Order:
    """Return an order of everything."""
    whole = Order(
        symbols=("BTC_USDT", "1000pepeusdt"),
        interval="1m",
        since=START,
        until=START + 1_000 * MINUTE,
        format=form,
        output=str(folder / f"bars.{form}"),
    )
    return attrs.evolve(whole, **changes)


async def exported(store: SqliteStore, wanted: Order) -> int:
    """Run an export; return how many bars it says to have written."""
    config = load_config(overrides={"storage.url": f"sqlite:///{store.path}"})
    with trio.fail_after(LIMIT_S):
        return await run_export(config, wanted)


def text(value: object) -> str:
    """Return a value as CSV writes it."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def left_in(folder: Path) -> list[str]:
    """Return what is there beside the database."""
    return [path.name for path in folder.iterdir() if "klines.db" not in path.name]


def read(path: str, form: str) -> list[dict[str, Any]]:
    """Return a file's bars as texts."""
    if form == "csv":
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123  (as users do)
            return list(csv.DictReader(file))
    table = pq.read_table(path) if form == "parquet" else pa.ipc.open_file(path).read_all()
    texts = [{name: text(value) for name, value in each.items()} for each in table.to_pylist()]
    for each in texts:
        for name in ("is_final", "is_complete"):
            each[name] = each[name].lower()
    return texts


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow"])
async def test_every_format_has_every_bar(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """In the order asked for, page by page, exact; only closed ones."""
    monkeypatch.setattr(export, "PAGE_BARS", 7)
    monkeypatch.setattr(arrow_files, "ROW_GROUP", 20)
    wanted = order(tmp_path, form)

    assert await exported(store, wanted) == 100
    bars = read(wanted.output, form)
    assert ["BTC_USDT"] * 50 + ["1000PEPE_USDT"] * 50 == [each["symbol"] for each in bars]
    zeros = "" if form == "csv" else "00000"
    assert [f"0.{number:02}{zeros}" for number in range(50)] == [each["open"] for each in bars[:50]]
    quotes = [each["quote_volume"] for each in bars]
    zeros = "" if form == "csv" else "00"
    assert quotes[0] == f"0.00005{zeros}"
    assert quotes[50] == "0.0000005"
    assert all(each["is_final"] == "true" for each in bars)


async def test_a_span_is_half_open(store: SqliteStore, tmp_path: Path) -> None:
    """From the first open time to before the end."""
    wanted = order(tmp_path, "csv", since=START + MINUTE, until=START + 3 * MINUTE)

    assert await exported(store, wanted) == 4
    opens = [int(each["open_time"]) for each in read(wanted.output, "csv")]
    assert [START + MINUTE, START + 2 * MINUTE] * 2 == opens


async def test_pages_have_no_hole_and_no_double_while_bars_come(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written meanwhile does not move what was asked for."""
    monkeypatch.setattr(export, "PAGE_BARS", 7)
    real = stored.StoredBars.read
    number = 50

    def read_and_write(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal number
        bars = real(self, *args, **kwargs)
        store.write(batch((0, bar(START + number * MINUTE, number))), NOTHING)
        number += 1
        return bars

    monkeypatch.setattr(stored.StoredBars, "read", read_and_write)
    wanted = order(tmp_path, "csv", symbols=("BTCUSDT",))
    count = await exported(store, wanted)
    opens = [int(each["open_time"]) for each in read(wanted.output, "csv")]

    assert count >= 50
    assert list(range(START, START + count * MINUTE, MINUTE)) == opens


async def test_the_memory_is_a_page(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No read asks for more, and every page is written before the next is read."""
    monkeypatch.setattr(export, "PAGE_BARS", 7)
    events: list[int] = []
    real_read, real_write = stored.StoredBars.read, arrow_files.ArrowFile.write

    def read_page(self: Any, *args: Any, limit: int, **kwargs: Any) -> Any:
        bars = real_read(self, *args, limit=limit, **kwargs)
        if limit > 1:
            events.append(len(bars))
        return bars

    def write(self: Any, series: Any, rows: Any) -> None:
        events.append(-len(rows))
        real_write(self, series, rows)

    monkeypatch.setattr(stored.StoredBars, "read", read_page)
    monkeypatch.setattr(arrow_files.ArrowFile, "write", write)
    await exported(store, order(tmp_path, "arrow", symbols=("BTCUSDT",)))

    assert [7, -7] * 7 + [1, -1] == events


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"symbols": ("NOPE",)}, ConfigError, r"SYMBOL: expected .*BTC_USDT.*, was 'NOPE'"),
        ({"symbols": ("QUIETUSDT",)}, ExportError, "no closed bar of QUIETUSDT 1m is stored"),
        ({"since": START + 90 * MINUTE}, ExportError, "from 2026-08-08 01:30:00 to"),
        ({"interval": "1h"}, ExportError, "1h is stored"),
        ({"output": "/proc/all.csv"}, ExportError, "cannot write /proc/all.csv: No"),
    ],
)
async def test_what_cannot_be_is_told_and_leaves_nothing(
    store: SqliteStore,
    tmp_path: Path,
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    """Neither a file nor a part of one."""
    with pytest.RaisesGroup(
        pytest.RaisesExc(error, match=words), flatten_subgroups=True, allow_unwrapped=True
    ):
        await exported(store, order(tmp_path, "csv", **changes))

    assert not left_in(tmp_path)


async def test_one_quiet_symbol_of_several_is_no_error(store: SqliteStore, tmp_path: Path) -> None:
    """The others are written."""
    wanted = order(tmp_path, "csv", symbols=("QUIETUSDT", "BTCUSDT"))

    assert await exported(store, wanted) == 50


async def test_an_existing_file_is_replaced_by_force_alone(
    store: SqliteStore, tmp_path: Path
) -> None:
    """And only at the end."""
    wanted = order(tmp_path, "csv")
    (tmp_path / "bars.csv").write_text("precious")
    with pytest.raises(ConfigError, match="--force to replace one"):
        await exported(store, wanted)
    with pytest.RaisesGroup(ExportError, flatten_subgroups=True):
        await exported(store, attrs.evolve(wanted, force=True, interval="1h"))
    assert (tmp_path / "bars.csv").read_text() == "precious"

    assert await exported(store, attrs.evolve(wanted, force=True)) == 100
    assert len(read(wanted.output, "csv")) == 100


@pytest.mark.parametrize("name", ["klines.db", "klines.db-wal", "klines.db.lock"])
async def test_a_database_is_never_replaced(store: SqliteStore, tmp_path: Path, name: str) -> None:
    """Neither the one that is exported nor what belongs to it, however much it is wanted."""
    (tmp_path / "klines.db.lock").touch()
    wanted = order(tmp_path, "csv", output=str(tmp_path / name), force=True)
    with pytest.raises(ConfigError, match="a file that belongs to no database"):
        await exported(store, wanted)
    assert await exported(store, order(tmp_path, "csv")) == 100


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("absent/bars.csv", "a directory that exists"),
        (".", "a file, or - for standard output"),
        ("pipe", "a file, or - for standard output"),
    ],
)
async def test_what_is_no_place_for_a_file_is_refused(
    store: SqliteStore, tmp_path: Path, output: str, expected: str
) -> None:
    """Force or not; a pipe that was replaced by a file would help nobody."""
    os.mkfifo(tmp_path / "pipe")
    for force in (False, True):
        wanted = order(tmp_path, "csv", output=str(tmp_path / output), force=force)
        with pytest.raises(ConfigError, match=expected):
            await exported(store, wanted)
    assert (tmp_path / "pipe").is_fifo()


async def test_a_link_leads_to_the_file(store: SqliteStore, tmp_path: Path) -> None:
    """Which is what is replaced."""
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    wanted = order(tmp_path, "csv", output=str(tmp_path / "link.csv"), force=True)
    assert await exported(store, wanted) == 100
    assert (tmp_path / "link.csv").is_symlink()
    assert len(read(str(tmp_path / "real.csv"), "csv")) == 100


async def test_a_file_that_appears_meanwhile_is_not_replaced(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is somebody's."""
    real = stored.StoredBars.close

    def close(self: Any) -> None:
        (tmp_path / "bars.csv").write_text("precious")
        real(self)

    monkeypatch.setattr(stored.StoredBars, "close", close)
    with pytest.raises(ConfigError, match="a new file"):
        await exported(store, order(tmp_path, "csv"))
    assert (tmp_path / "bars.csv").read_text() == "precious"


async def test_a_cancelled_export_leaves_nothing(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at SIGINT."""
    real = stored.StoredBars.read
    with trio.CancelScope() as scope:

        def read_and_cancel(self: Any, *args: Any, **kwargs: Any) -> Any:
            trio.from_thread.run_sync(scope.cancel)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(stored.StoredBars, "read", read_and_cancel)
        await exported(store, order(tmp_path, "parquet"))

    assert scope.cancelled_caught
    assert not left_in(tmp_path)


async def test_bars_that_are_multiplied_meanwhile_end_it(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them would be ten times too large."""
    monkeypatch.setattr(export, "PAGE_BARS", 7)
    real = arrow_files.ArrowFile.write

    def write(self: Any, series: Any, rows: Any) -> None:
        grown = attrs.evolve(SYMBOLS[0], price_scale=4)
        store.regrow([grown])
        real(self, series, rows)

    monkeypatch.setattr(arrow_files.ArrowFile, "write", write)
    with pytest.RaisesGroup(ScalesChanged, flatten_subgroups=True):
        await exported(store, order(tmp_path, "arrow"))
    assert not left_in(tmp_path)


async def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """An empty one would be of no use."""
    config = load_config(overrides={"storage.url": f"sqlite:///{tmp_path}/none.db"})
    with pytest.raises(ConfigError, match="a database with klinetrio's tables"):
        await run_export(config, order(tmp_path, "csv"))
    assert not left_in(tmp_path)


async def test_without_pyarrow_the_extra_is_named(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CSV does without."""
    monkeypatch.setattr(export, "has_arrow", lambda: False)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        await exported(store, order(tmp_path, "parquet"))
    assert await exported(store, order(tmp_path, "csv")) == 100


def command(store: SqliteStore, *arguments: str, form: str = "csv") -> list[str]:
    """Return the arguments of an export on the command line."""
    span = ("--since", str(START), "--interval", "1m", "--format", form)
    return ["export", "--storage", f"sqlite:///{store.path}", *span, *arguments]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("BTCUSDT", "-o", "x.csv", "--until", "2020-01-01"), 2, "--since before --until"),
        (("BTCUSDT", "-o", "x.csv", "--interval", "7m"), 2, "'7m' is not one of"),
        (("BTCUSDT", "-o", "-", "--format", "parquet"), 2, "expected a file for parquet"),
        (("BTCUSDT", "-o", "x", "--format", "xlsx"), 2, "'xlsx' is not one of"),
        (("NOPE", "-o", "x.csv"), 2, "SYMBOL: expected a symbol in the database"),
        (("BTCUSDT", "-o", "."), 2, "--output: expected a file, or - for"),
        (("QUIETUSDT", "-o", "x.csv"), 1, "no closed bar of QUIETUSDT"),
        (("-o", "x.csv"), 2, "Missing argument 'SYMBOL...'"),
    ],
)
def test_the_exit_status_says_whose_fault_it_is(
    store: SqliteStore, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """2 for what was asked, 1 for what was found; one clear line."""
    ended = CliRunner().invoke(main, command(store, *arguments))

    assert (status, True) == (ended.exit_code, words in ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr


def process(store: SqliteStore, *arguments: str, program: str = "") -> subprocess.Popen[bytes]:
    """Start an export in a process of its own, after some lines of Python."""
    code = f"{program}\nfrom klinetrio.cli import main\nmain()"
    environment = {name: value for name, value in os.environ.items() if "KLINETRIO" not in name}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )


@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_standard_output_is_a_stream(store: SqliteStore, form: str) -> None:
    """The same bytes that the interface sends."""
    with process(store, *command(store, "BTCUSDT", "-o", "-", form=form)) as running:
        out, log = running.communicate(timeout=LIMIT_S)

    series = REGISTRY.symbols[0]
    assert running.returncode == 0
    assert b"bars=50" in log
    if form == "csv":
        assert len(list(csv.reader(io.StringIO(out.decode())))) == 51
        assert out.startswith(make_encoder("csv", []).head())
    else:
        table = pa.ipc.open_stream(out).read_all()
        assert (50, pa.decimal128(38, series.price_scale)) == (
            table.num_rows,
            table.schema.field("open").type,
        )


def test_a_reader_that_leaves_is_a_failure_in_words(store: SqliteStore) -> None:
    """As in ``| head``."""
    late = "import klinetrio.formats.text as t\nreal = t.CsvEncoder.bars\n"
    late += "t.CsvEncoder.bars = lambda *a: real(*a) * 10_000"
    arguments = command(store, "BTCUSDT", "-o", "-")
    with process(store, *arguments, program=late) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        log = running.stderr.read().decode()

    assert running.returncode == 1
    assert "cannot write -: Broken pipe" in log
    assert "raceback" not in log


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_export_leaves_no_file_of_that_name(store: SqliteStore, tmp_path: Path) -> None:
    """And the next one is not disturbed by what is left."""
    held = "import time, sys, klinetrio.formats.arrow_files as f\nreal = f.ParquetFile.write\n"
    held += "def write(*a):\n    real(*a); print('written', flush=True); time.sleep(600)\n"
    held += "f.ParquetFile.write = write"
    target = tmp_path / "bars.parquet"
    arguments = command(store, "BTCUSDT", "-o", str(target), form="parquet")
    with process(store, *arguments, program=held) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"written\n"
        running.kill()

    assert running.returncode == -signal.SIGKILL
    assert not target.exists()
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert pq.read_table(target).num_rows == 50


async def test_a_database_that_is_locked_is_told(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any failure of the database is."""

    def fail(*_: Any, **__: Any) -> None:
        raise StoreError("database is locked")

    monkeypatch.setattr(stored.StoredBars, "read", fail)
    with pytest.RaisesGroup(StoreError, flatten_subgroups=True):
        await exported(store, order(tmp_path, "csv"))
    assert not left_in(tmp_path)
