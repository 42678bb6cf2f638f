"""Who folds the live trades into a database: one daemon at a time.

Two daemons on one file would overwrite each other's open bars and count revisions past each
other, and no upsert could tell.  So the daemon claims the database for its whole life.  The claim
is not the store's: whatever reads the file, or writes whole bars into it beside the daemon, needs
none.

The claim is a lock of the operating system on a file of its own beside the database, named like
it with ``.lock`` at the end.  The kernel gives it up with the process, however that ends, so there
is no stale claim.  The process id in the file serves the message of whoever is refused, no more.

Options that fail: a lock on the database itself collides with SQLite's own locks, and closing any
descriptor of the file would drop those; a process id alone, to be looked up, is stale after a
crash and wrong once the system has given it to another process; taking the file away at the end
lets two processes hold locks on two files of one name.

Invariants (tested in tests/storage/test_claim.py, tests/e2e/test_two_daemons.py):
  I1  At most one claim of a file is held at a time, by whatever path or symbolic link it is named.
      (A hard link is another name to the system as well; SQLite forbids those.)
  I2  Whoever is refused has written nothing.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from klinetrio.errors import ClaimError, StoreError


if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Windows keeps others from reading what is locked, so the locked byte lies beyond the process id.
_LOCKED_BYTE = 1 << 20


@contextmanager
def claim(database: Path, name: str = "") -> Iterator[None]:
    """Be the only one who folds live trades into a database for the length of the block.

    Args:
        database: Its file, which need not exist; its directory is created.
        name: What it is called in a refusal, if not by its file.

    Raises:
        ClaimError: Another process has claimed it.
        StoreError: The lock cannot be had at all.
    """
    with _mapped(f"cannot claim {database}"):
        path = _lock_path(database)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _hold(lock, database, name)
        try:
            yield
        finally:
            # What nobody holds names nobody.
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def is_claimed(database: Path) -> bool:
    """Tell whether another process, or another part of this one, holds the claim right now."""
    if not _lock_path(database).exists():
        return False
    # Whoever may only read it can try the lock as well, but for Windows.
    mode = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY
    with _mapped(f"cannot look at {database}"):
        lock = os.open(_lock_path(database), mode)
    try:
        _lock_now(lock)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(lock)
    return False


def _lock_path(database: Path) -> Path:
    # SQLite follows links, too: all names of a linked file are one database.
    real = database.resolve()
    return real.with_name(f"{real.name}.lock")


def _hold(lock: int, database: Path, name: str) -> None:
    with _mapped(f"cannot claim {database}"):
        try:
            _lock_now(lock)
        except (BlockingIOError, PermissionError):
            # The refusal says it all; that the lock would have blocked helps nobody.
            raise ClaimError(name or database, _holder(lock)) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())


def _lock_now(lock: int) -> None:
    """Lock the file, or raise at once."""
    if sys.platform == "win32":
        os.lseek(lock, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        os.lseek(lock, 0, os.SEEK_SET)
    else:
        # Not ``lockf``: its locks belong to the process, not to the descriptor, so a second
        # daemon in the same process would not be refused.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(lock: int) -> str:
    """Return who holds it by the process id in the file, which comes an instant after the lock."""
    os.lseek(lock, 0, os.SEEK_SET)
    text = os.read(lock, 20)
    return f"process {int(text)}" if text.isdigit() else "another process"


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error}") from error
