"""What the exchange says of its symbols, kept as it said it.

klinetrio needs six fields of ``exchangeInfo``.  Programs made for the exchange need the others, so
they are handed on as they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@attrs.frozen(slots=True)
class Listing:
    """The answer of ``exchangeInfo``, of the symbols that are followed.

    Attributes:
        head: Its fields but ``serverTime`` and ``symbols``, in their order.
        entries: Of each symbol, by symbol index, its entry in ``symbols`` as JSON: some 1.3 KB, where
            parsed objects would take 5.
    """

    head: Mapping[str, Any]
    entries: Sequence[bytes]
