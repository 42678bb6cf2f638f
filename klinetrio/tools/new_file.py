"""A file that a tool makes: there when it is whole, and never in the place of a database."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from klinetrio.errors import ConfigError


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

# How a SQLite file begins, and what lies beside one of ours.
_SQLITE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", ".lock")


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Yield a file that gets its name when it is whole, and is gone if it does not get that far.

    Args:
        path: What it will be.
        force: Whether a file that is there is replaced; a database never is.

    Raises:
        ConfigError: That is no place for a new file.
    """
    _expect_free(path, force=force)
    # In the same directory, as a name can only be given within one file system.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            # Without it a power cut could leave the name and not the bars.
            os.fsync(file.fileno())
        _expect_free(path, force=force)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _expect_free(path: Path, *, force: bool) -> None:
    if not path.parent.is_dir():
        raise ConfigError("--output", str(path), "a directory that exists, and a file in it")
    if not path.exists():
        return
    if not path.is_file():
        raise ConfigError("--output", str(path), "a file, or - for standard output")
    if not force:
        raise ConfigError("--output", str(path), "a new file, or --force to replace one")
    if any(map(_is_database, (path, *map(path.with_name, _owners(path.name))))):
        raise ConfigError("--output", str(path), "a file that belongs to no database")


def _owners(name: str) -> list[str]:
    """Return the names of databases that a file would belong to by its name."""
    return [name.removesuffix(each) for each in _BESIDE if name.endswith(each) and name != each]


def _is_database(path: Path) -> bool:
    """Tell whether a file is SQLite's, such as the one that is being exported."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
