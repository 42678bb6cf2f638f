"""Bars as PostgreSQL's binary COPY format, packed by numpy.

The format is documented in PostgreSQL's manual, chapter COPY, "Binary Format": a signature, then per
row the number of its fields, then per field its length and its bytes, big-endian; -1 at the end.
All fields have fixed lengths here, so a whole batch is one structured array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELDS, FLAGS, REVISION_SHIFT
from klinetrio.errors import StoreError


if TYPE_CHECKING:
    import numpy.typing as npt

    Int64Array = npt.NDArray[np.int64]

_MAX_REVISION = 2**31 - 1

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"

# In the order of ``postgres_schema.copy_statement``.
_FIELDS = [
    ("series_id", ">i4"),
    *((name, ">i8") for name in FIELDS[:FLAGS]),
    ("flags", ">i2"),
    ("revision", ">i4"),
]
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(part for name, kind in _FIELDS for part in ((f"{name} length", ">i4"), (name, kind))),
    ]
)


def pack(series: Int64Array, bars: Int64Array) -> bytes:
    """Return bars as the bytes of one COPY.

    Args:
        series: The ids of their series, shape ``(n,)``.
        bars: Shape ``(n, 13)``.

    Raises:
        StoreError: A revision does not fit its 32 bits.
    """
    if len(bars) and bars[:, FLAGS].max() >> REVISION_SHIFT > _MAX_REVISION:
        raise StoreError(f"expected a revision of at most {_MAX_REVISION}")
    rows = np.empty(len(bars), _ROW)
    rows["fields"] = len(_FIELDS)
    for name, kind in _FIELDS:
        rows[f"{name} length"] = np.dtype(kind).itemsize
    for field, name in enumerate(FIELDS[:FLAGS]):
        rows[name] = bars[:, field]
    rows["series_id"] = series
    rows["flags"] = bars[:, FLAGS] & ((1 << REVISION_SHIFT) - 1)
    rows["revision"] = bars[:, FLAGS] >> REVISION_SHIFT
    return _HEADER + rows.tobytes() + _TRAILER
