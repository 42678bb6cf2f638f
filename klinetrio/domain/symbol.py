"""What is known of one symbol of the exchange."""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True)
class Symbol:
    """One instrument, with the scales at which its numbers are kept.

    Attributes:
        name: The exchange's name, as in ``BTCUSDT``; may be non-ASCII or hold ``_``.
        base: Base asset, as in ``BTC``.
        quote: Quote asset, as in ``USDT``.
        listing_time: When it was listed, UTC ms.
        price_scale: Decimals of prices.
        quantity_scale: Decimals of quantities (volumes in the base asset).
    """

    name: str
    base: str
    quote: str
    listing_time: int
    price_scale: int
    quantity_scale: int

    @property
    def quote_scale(self) -> int:
        """Decimals of quote volumes: a price times a quantity."""
        return self.price_scale + self.quantity_scale

    @property
    def public_name(self) -> str:
        """The name that interface v1 shows, as in ``BTC_USDT`` or ``BTC_USDT_261225``."""
        _, separator, delivery = self.name.partition("_")
        return f"{self.base}_{self.quote}{separator}{delivery}"

    @property
    def stream(self) -> str:
        """The name of its trade stream: only ASCII letters are lowered, as the exchange does."""
        lowered = "".join(c.lower() if c.isascii() else c for c in self.name)
        return f"{lowered}@aggTrade"
