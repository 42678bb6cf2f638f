"""``exchangeInfo``: what the exchange said of the symbols that are followed, and contract types.

It is encoded once, as a thousand symbols are a megabyte, and only the time in it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from klinetrio.api.fapi.errors import FapiError
from klinetrio.api.fapi.parameters import not_valid
from klinetrio.api.names import normalise


if TYPE_CHECKING:
    from klinetrio.domain.listing import Listing

# A continuous contract of these is one symbol for ever; a quarter's is another one each quarter, and
# those that have expired are not followed.
_LASTING = frozenset({"PERPETUAL", "TRADIFI_PERPETUAL"})
_EXPIRING = frozenset({"CURRENT_QUARTER", "NEXT_QUARTER", "CURRENT_MONTH", "NEXT_MONTH"})


class ExchangeInfo:
    """What the exchange said.

    Args:
        listing: Of the symbols that are followed.
    """

    def __init__(self, listing: Listing) -> None:
        head = dict(listing.head)
        timezone = orjson.dumps(head.pop("timezone", "UTC"))
        self._before = b'{"timezone":' + timezone + b',"serverTime":'
        rest = b"".join(
            b"," + orjson.dumps(name) + b":" + orjson.dumps(value) for name, value in head.items()
        )
        self._after = rest + b',"symbols":[' + b",".join(listing.entries) + b"]}"
        entries = [orjson.loads(each) for each in listing.entries]
        contracts = [(each.get("pair"), each.get("contractType")) for each in entries]
        self._contracts = {pair_and_type: i for i, pair_and_type in enumerate(contracts)}
        self._pairs = {normalise(pair): pair for pair, _ in contracts if pair}

    def body(self, now_ms: int) -> bytes:
        """Return the answer at this time."""
        return self._before + str(now_ms).encode() + self._after

    def continuous(self, pair: str, contract_type: str) -> int | None:
        """Return the index of the symbol that is a pair's contract, None if it has none.

        Raises:
            FapiError: No symbol that is followed is of that pair, or the type is none.
        """
        known = self._pairs.get(normalise(pair))
        if known is None:
            raise FapiError(-1121, "Invalid symbol.")
        if contract_type not in _LASTING | _EXPIRING:
            raise not_valid("contractType")
        if contract_type in _EXPIRING:
            return None
        return self._contracts.get((known, contract_type))
