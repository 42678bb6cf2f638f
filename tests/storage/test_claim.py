"""One daemon at a time folds live trades into a database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from klinetrio.errors import ClaimError, StoreError
from klinetrio.storage.claim import claim
from tests.storage.bars import BASE, NOTHING, bar, batch
from tests.storage.test_sqlite import opened, query


ROOT = Path(__file__).parents[2]

HOLDER = """
import sys
from pathlib import Path
from klinetrio.storage.claim import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database will be."""
    return tmp_path / "some" / "where" / "klines.db"


def lock_of(path: Path) -> Path:
    """Return the file that is locked."""
    return path.with_name("klines.db.lock")


def test_a_second_claim_is_refused_by_file_and_process(path: Path) -> None:
    """Also in the same process; the first one is not disturbed by it, nor is anything made."""
    with claim(path):
        for _ in range(2):
            text = rf"expected {path} to be free, .* the daemon of process {os.getpid()}$"
            with pytest.raises(ClaimError, match=text) as caught, claim(path):
                pytest.fail("claimed twice")
            assert (path, f"process {os.getpid()}") == (caught.value.database, caught.value.holder)
        assert [lock_of(path)] == list(path.parent.iterdir())
    with claim(path):
        pass


def test_a_claim_ends_with_its_block_and_names_nobody_then(path: Path) -> None:
    """Also when the block fails; the lock's file stays, empty."""

    def fail() -> None:
        with claim(path):
            assert lock_of(path).read_text() == str(os.getpid())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert lock_of(path).read_text() == ""
    with claim(path):
        assert lock_of(path).read_text() == str(os.getpid())


def test_only_the_newest_holder_is_named(path: Path) -> None:
    """Whatever a process that was killed has left in the file."""
    path.parent.mkdir(parents=True)
    lock_of(path).write_text("99999999999999999")
    with claim(path):
        assert lock_of(path).read_text() == str(os.getpid())


def test_a_database_is_claimed_by_all_its_names(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absolute, relative, and through a link to it or to its directory, which SQLite follows."""
    opened(path).close()
    (tmp_path / "folder").symlink_to(path.parent)
    (tmp_path / "link.db").symlink_to(path)
    monkeypatch.chdir(path.parent)
    names = (Path("klines.db"), tmp_path / "folder" / "klines.db", tmp_path / "link.db")
    for held in (path, *names):
        with claim(held):
            for other in (path, *names):
                with pytest.raises(ClaimError), claim(other):
                    pytest.fail(f"{held} and {other} were claimed at once")


def test_databases_beside_each_other_are_claimed_apart(path: Path) -> None:
    """Each has its own lock."""
    with claim(path), claim(path.with_name("other.db")):
        assert {"klines.db.lock", "other.db.lock"} == {each.name for each in path.parent.iterdir()}


def test_a_killed_process_leaves_no_claim(path: Path) -> None:
    """The kernel ends it; the number that the dead process has left is nobody's any more."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(ClaimError, match=f"process {holder.pid}$"), claim(path):
                pytest.fail("two processes hold it")
        finally:
            holder.kill()
        holder.wait(20)
    assert lock_of(path).read_text() == str(holder.pid)
    with claim(path):
        assert lock_of(path).read_text() == str(os.getpid())


@pytest.mark.parametrize("content", [b"", b"no number", b"\xff\xfe", b"12 34"])
def test_a_holder_that_cannot_be_told_is_another_process(path: Path, content: bytes) -> None:
    """As in the instant between its lock and its number."""
    with claim(path):
        lock_of(path).write_bytes(content)
        with pytest.raises(ClaimError, match=r"the daemon of another process$"), claim(path):
            pytest.fail("claimed twice")


def test_readers_and_other_writers_need_no_claim(path: Path) -> None:
    """A person at the sqlite3 prompt reads, and another store writes, while it is claimed."""
    with claim(path):
        daemon, other = opened(path), opened(path)
        daemon.write(batch((0, bar(BASE))), NOTHING)
        other.write_history(batch((1, bar(BASE))))
        assert query(path, "SELECT count(*) FROM klines") == [(2,)]
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            assert reader.execute("SELECT count(*) FROM klines").fetchall() == [(2,)]
        daemon.close()
        other.close()


def test_a_lock_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    """A path through a file, or a directory in the lock's place."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "klines.db.lock").mkdir()
    for path in (tmp_path / "file" / "klines.db", tmp_path / "klines.db"):
        with pytest.raises(StoreError, match=f"cannot claim {path}: ") as caught, claim(path):
            pytest.fail("claimed")
        assert not isinstance(caught.value, ClaimError)
