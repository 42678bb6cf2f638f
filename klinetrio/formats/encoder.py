"""The formats by name, and what they have in common."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from klinetrio.formats.text import CsvEncoder, JsonEncoder


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.formats.series import Series

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
}
"""What the interfaces can answer with: media types by the name of the format."""

INSTALL_ARROW = "pip install pyarrow"


class Encoder(Protocol):
    """Turns pages of bars into one document, of which it is given the parts in order.

    A document is ``head()``, then what ``bars()`` returns for page after page, then ``tail()``.
    """

    content_type: str

    def head(self) -> bytes:
        """Return what comes before the first bar; may be empty."""
        ...

    def bars(self, series: Series, rows: Sequence[Sequence[int]]) -> bytes:
        """Return bars of one series.

        Args:
            series: Whose bars.
            rows: Shape ``(n, 13)``, ascending by open time.
        """
        ...

    def tail(self) -> bytes:
        """Return what comes after the last bar; may be empty."""
        ...


@cache
def has_arrow() -> bool:
    """Tell whether pyarrow is installed; it is not loaded by that."""
    return find_spec("pyarrow") is not None


def make_encoder(name: str, series: Sequence[Series]) -> Encoder:
    """Return a new encoder.

    Args:
        name: One of ``MEDIA_TYPES``.
        series: All series of which bars will be given; at least one.

    Raises:
        ModuleNotFoundError: pyarrow is needed and not installed, as ``has_arrow`` tells before.
    """
    if name == "json":
        return JsonEncoder()
    if name == "csv":
        return CsvEncoder()
    # Loading takes 0.2 s and 40 MB, which only those shall pay who ask for it.
    from klinetrio.formats.arrow import ArrowEncoder  # noqa: PLC0415

    return ArrowEncoder(series)
