"""Files come as blocks of whole lines, and only if they are what they were."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from klinetrio.archive import files
from klinetrio.archive.files import read_blocks, verify
from klinetrio.errors import ArchiveError
from tests.archive.texts import write_checksum, write_zip


if TYPE_CHECKING:
    from pathlib import Path

TEXT = "".join(f"{number},line\n" for number in range(1000))


@pytest.mark.parametrize("size", [7, 64, 100_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blocks_are_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, end: str
) -> None:
    """Of zip and of csv, however they are cut, with either line end and with none at the end."""
    monkeypatch.setattr(files, "BLOCK", size)
    text = TEXT.replace("\n", end).removesuffix(end)
    plain = tmp_path / "a.csv"
    plain.write_bytes(text.encode())

    for path in (plain, write_zip(tmp_path / "a.zip", text)):
        blocks = list(read_blocks(path))
        assert TEXT.encode() == b"".join(blocks)
        assert all(block.endswith(b"\n") for block in blocks)


def test_a_checksum_is_checked_where_there_is_one(tmp_path: Path) -> None:
    """A file without one is taken as it is."""
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    assert not verify(path)
    write_checksum(path)
    assert verify(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0" * 64 + "  a.csv\n", "expected SHA-256 0000.* as in a.csv.CHECKSUM, was [0-9a-f]{64}"),
        ("0" * 64 + "  b.csv\n", "expected a line of a.csv in a.csv.CHECKSUM"),
        ("nonsense\n", "expected a line of a.csv"),
        ("", "expected a line of a.csv"),
    ],
)
def test_a_file_that_is_another_is_refused(tmp_path: Path, line: str, message: str) -> None:
    """Also if the checksum's file is not one."""
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    (tmp_path / "a.csv.CHECKSUM").write_text(line)
    with pytest.raises(ArchiveError, match=message):
        verify(path)


def test_a_checksum_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As what editors and shells on Windows write."""
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    write_checksum(path)
    beside = tmp_path / "a.csv.CHECKSUM"
    beside.write_bytes(b"\xef\xbb\xbf" + beside.read_bytes())
    assert verify(path)


@pytest.mark.parametrize("cut", [10, 500, -30, -1])
def test_a_truncated_zip_is_refused(tmp_path: Path, cut: int) -> None:
    """Wherever it is cut."""
    path = write_zip(tmp_path / "a.zip", TEXT)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ArchiveError, match=r"a.zip: expected a sound zip file"):
        list(read_blocks(path))


def test_a_garbled_zip_is_refused(tmp_path: Path) -> None:
    """Its own checksum tells, after the last byte."""
    path = write_zip(tmp_path / "a.zip", TEXT)
    raw = bytearray(path.read_bytes())
    raw[200] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(ArchiveError, match=r"a.zip: expected a sound zip file"):
        list(read_blocks(path))


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    """The name inside stays when a zip is renamed."""
    path = write_zip(tmp_path / "ETHUSDT-aggTrades-2026-08-08.zip", TEXT)
    assert TEXT.encode() == b"".join(read_blocks(path))
    path = path.rename(tmp_path / "BTCUSDT-aggTrades-2026-08-08.zip")
    with pytest.raises(ArchiveError, match="expected the same name inside, was 'ETHUSDT-"):
        list(read_blocks(path))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(tmp_path: Path, compression: int) -> None:
    """As a file that is refused, not as an error of a library."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
        archive.writestr("a.csv", TEXT)
    with pytest.raises(ArchiveError, match="expected a deflated file inside"):
        list(read_blocks(tmp_path / "a.zip"))


def test_a_garbled_name_inside_is_refused(tmp_path: Path) -> None:
    """One that claims to be UTF-8 and is not."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\u00e9.csv", TEXT)
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    with pytest.raises(ArchiveError, match=r"a.zip: expected a sound zip file"):
        list(read_blocks(path))


def test_what_has_no_lines_is_refused(tmp_path: Path) -> None:
    """Before it fills the memory."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"1" * 2_000_000)
    with pytest.raises(ArchiveError, match="expected lines of at most"):
        list(read_blocks(path))


def test_a_directory_with_the_name_of_a_file_is_refused(tmp_path: Path) -> None:
    """As is whatever else the system does not let us read."""
    with pytest.raises(ArchiveError, match="expected a readable file, was Is a directory"):
        list(read_blocks(tmp_path))
