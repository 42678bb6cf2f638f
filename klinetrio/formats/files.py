"""Tables of klines in files: Parquet, Arrow, CSV; for tools, in threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from klinetrio.formats.encoder import Encoder, make_encoder


if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    import numpy as np
    import numpy.typing as npt

    from klinetrio.formats.series import Series

    Int64Array = npt.NDArray[np.int64]

FILE_FORMATS = ("parquet", "csv", "arrow")


class TableFile(Protocol):
    """A table that grows."""

    def write(self, series: Series, rows: Int64Array) -> None:
        """Add bars of one series.

        Args:
            series: Whose bars.
            rows: At least one, shape ``(n, 13)``.

        Raises:
            OSError: The file cannot take them.
        """
        ...

    def close(self) -> None:
        """Finish the table; the file under it stays open.

        Raises:
            OSError: The file cannot take the rest.
        """
        ...

    def abandon(self) -> None:
        """Let go of the file, which nobody will read; instead of ``close``."""
        ...


class EncodedFile:
    """A document in a file.

    Args:
        file: Where it goes.
        encoder: Makes it.
    """

    def __init__(self, file: BinaryIO, encoder: Encoder) -> None:
        self._file = file
        self._encoder = encoder
        file.write(encoder.head())

    def write(self, series: Series, rows: Int64Array) -> None:
        """Add bars of one series."""
        self._file.write(self._encoder.bars(series, rows.tolist()))

    def close(self) -> None:
        """Finish the document."""
        self._file.write(self._encoder.tail())

    def abandon(self) -> None:
        """Do nothing."""


def make_table(
    name: str, file: BinaryIO, series: Sequence[Series], *, is_pipe: bool = False
) -> TableFile:
    """Return a new table.

    Args:
        name: One of ``FILE_FORMATS``.
        file: Where it goes.
        series: All series of which bars will be written; at least one.
        is_pipe: Whether it is read as it comes: Arrow then has its stream format, not that of
            files, which readers expect to be able to seek in.
    """
    if name == "csv" or is_pipe:
        return EncodedFile(file, make_encoder(name, series))
    # As in ``make_encoder``: only those load pyarrow who want it.
    from klinetrio.formats.arrow_files import ArrowFile, ParquetFile  # noqa: PLC0415

    return (ParquetFile if name == "parquet" else ArrowFile)(file, series)
