"""Arrow tables in files; needs pyarrow, the optional extra ``arrow``."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from klinetrio.formats.arrow import batch_of, schema_of


if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from klinetrio.formats.arrow import Int64Array
    from klinetrio.formats.series import Series

# Readers skip whole row groups by their statistics, so a group should be neither the whole file
# nor a page.  91 days of minutes, 30 MB while they are gathered.
ROW_GROUP = 131_072


class ArrowFile:
    """An Arrow IPC file, also called Feather version 2."""

    def __init__(self, file: BinaryIO, series: Sequence[Series]) -> None:
        self._schema = schema_of(series)
        self._writer = pa.ipc.new_file(file, self._schema)

    def write(self, series: Series, rows: Int64Array) -> None:
        """Add bars of one series as one record batch."""
        self._writer.write_batch(batch_of(series, rows, self._schema))

    def close(self) -> None:
        """Write the index at the end."""
        self._writer.close()

    def abandon(self) -> None:
        """Do nothing."""


class ParquetFile:
    """A Parquet file."""

    def __init__(self, file: BinaryIO, series: Sequence[Series]) -> None:
        self._schema = schema_of(series)
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._batches: list[pa.RecordBatch] = []
        self._count = 0

    def write(self, series: Series, rows: Int64Array) -> None:
        """Add bars of one series; they are written a row group at a time."""
        self._batches.append(batch_of(series, rows, self._schema))
        self._count += len(rows)
        if self._count >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the last row group and the index at the end."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Close the writer now; it would do so later by itself, on a file that is closed then."""
        self._batches.clear()
        with suppress(OSError):
            self._writer.close()

    def _flush(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._writer.write_table(table, row_group_size=self._count)
        self._batches.clear()
        self._count = 0
