"""The files of the page, read once and kept in memory.

A request chooses one of a fixed table by its name: no path of a client ever reaches the file
system.  Each file has a tag made of its bytes, so that a browser asks again at each visit and is
answered 304 until another version runs.

Invariants (tests/api/test_page_routes.py):
  I1  What is served under a tag is always the same bytes.
  I2  A name that is not in the table is not found, whatever it looks like.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files

import attrs


# Text that is short, or an image, gains nothing.
LEAST_TO_COMPRESS = 1024

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@attrs.frozen
class Variant:
    """The bytes of a file in one encoding.

    Attributes:
        body: As they are sent.
        tag: Changes whenever they do.
        encoding: Of the content; None for the file itself.
    """

    body: bytes
    tag: str
    encoding: str | None


@attrs.frozen
class PageFile:
    """One file, plain and compressed.

    Attributes:
        content_type: What it is.
        plain: The file itself.
        compressed: By gzip; None where that would gain nothing.
    """

    content_type: str
    plain: Variant
    compressed: Variant | None

    def variant(self, *, accepts_gzip: bool) -> Variant:
        """Return the shortest variant that a client takes."""
        if accepts_gzip and self.compressed is not None:
            return self.compressed
        return self.plain


@cache
def page_files() -> dict[str, PageFile]:
    """Return all files of the page by name.

    Blocking: reads and compresses 250 KB once, some 30 ms.
    """
    found = {}
    page = files("klinetrio.api") / "page"
    for folder in (page, page / "vendor"):
        for file in folder.iterdir():
            suffix = file.name[file.name.rfind(".") :]
            if file.is_file() and suffix in CONTENT_TYPES:
                found[file.name] = _page_file(file.read_bytes(), CONTENT_TYPES[suffix])
    return found


def _page_file(body: bytes, content_type: str) -> PageFile:
    compressed = None
    if len(body) >= LEAST_TO_COMPRESS:
        # Without the time of day in its head: the same file is the same bytes at each start.
        compressed = _variant(gzip.compress(body, mtime=0), "gzip")
    return PageFile(content_type, _variant(body, None), compressed)


def _variant(body: bytes, encoding: str | None) -> Variant:
    return Variant(body, hashlib.sha256(body).hexdigest()[:32], encoding)
