"""Archive files as blocks of whole lines; checked before, bounded in memory.

A file is a CSV text, or a zip with exactly one inside.  Where ``<file>.CHECKSUM`` lies beside it
(the format of ``sha256sum -c``), the file is only read if it matches.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

from klinetrio.archive.names import parse_name
from klinetrio.errors import ArchiveError


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Blocks of this many bytes (8,000 trades) and what is computed from them stay in a core's cache:
# four times as much is slower, a tenth of it twice as slow (measured).
BLOCK = 1 << 19

# A line is some hundred bytes at most; what has none for so long is no text.
MAX_LINE = 10_000

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_CHECKSUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def verify(path: Path) -> bool:
    """Check the file against the checksum beside it; tell whether there is one.

    Raises:
        ArchiveError: The file is not the one that the checksum was made of.
    """
    beside = path.with_name(f"{path.name}.CHECKSUM")
    with _mapped(path):
        if not beside.exists():
            return False
        expected = _expected(beside.read_bytes(), path.name)
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is None:
        raise ArchiveError(path, f"expected a line of {path.name} in {beside.name}, was none")
    if actual != expected:
        raise ArchiveError(path, f"expected SHA-256 {expected} as in {beside.name}, was {actual}")
    return True


def _expected(text: bytes, name: str) -> str | None:
    """Return the digest that a checksum file holds for a name."""
    for line in text.decode("utf-8-sig", "replace").splitlines():
        match = _CHECKSUM_LINE.fullmatch(line.strip())
        if match and match[2] == name:
            return match[1].lower()
    return None


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield the text of a file in blocks, each of whole lines that end with a line feed.

    Raises:
        ArchiveError: The file cannot be read, is a broken zip or holds no line.
    """
    with _mapped(path), _text_of(path) as file:
        rest = b""
        while chunk := file.read(BLOCK):
            cut = chunk.rfind(b"\n") + 1
            if cut:
                yield _plain(b"".join((rest, memoryview(chunk)[:cut])))
                rest = chunk[cut:]
            else:
                rest += chunk
            if len(rest) > MAX_LINE:
                raise ArchiveError(path, f"expected lines of at most {MAX_LINE} bytes")
        if rest:
            yield _plain(rest + b"\n")


def _plain(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


@contextmanager
def _text_of(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix != ".zip":
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(_member_of(path, archive)) as member:
        yield member


def _member_of(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the one file in a zip, if it may be what the zip is named after."""
    names = archive.namelist()
    if len(names) != 1 or not names[0].endswith(".csv"):
        raise ArchiveError(path, f"expected one CSV file inside, was {', '.join(names)[:80]!r}")
    member = archive.infolist()[0]
    if member.compress_type not in _COMPRESSIONS:
        # The others have errors of their own for damaged data.
        raise ArchiveError(path, "expected a deflated file inside, was compressed otherwise")
    # Whoever renames a zip leaves the name inside as it was.
    inside = parse_name(PurePosixPath(member.filename).name)
    if inside is not None and inside != parse_name(path.name):
        raise ArchiveError(path, f"expected the same name inside, was {member.filename[:80]!r}")
    return member


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Turn the errors of files and zips into ours."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(path, f"expected a readable file, was {error.strerror}") from error
    # An encrypted zip is a RuntimeError, an unknown compression a NotImplementedError, a garbled
    # name inside a UnicodeDecodeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeDecodeError) as error:
        raise ArchiveError(path, f"expected a sound zip file, was {error}") from error
