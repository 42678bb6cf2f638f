"""Names of symbols, as the exchange and as interface v1 have them."""

from __future__ import annotations

import attrs
import pytest

from klinetrio.domain.symbol import Symbol


def symbol(name: str, base: str, quote: str = "USDT") -> Symbol:
    """Return a symbol with nothing special but its name."""
    return Symbol(name, base, quote, 0, 2, 3)


@pytest.mark.parametrize(
    ("name", "base", "quote", "expected"),
    [
        ("BTCUSDT", "BTC", "USDT", "BTC_USDT"),
        ("BTCUSDC", "BTC", "USDC", "BTC_USDC"),
        ("BTCUSDT_261225", "BTC", "USDT", "BTC_USDT_261225"),
        ("1000SHIBUSDT", "1000SHIB", "USDT", "1000SHIB_USDT"),
        ("币安人生USDT", "币安人生", "USDT", "币安人生_USDT"),
    ],
)
def test_the_public_name_parts_base_and_quote(
    name: str, base: str, quote: str, expected: str
) -> None:
    """Also of quarterly contracts and of names that are not ASCII."""
    assert expected == symbol(name, base, quote).public_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTCUSDT", "btcusdt@aggTrade"),
        ("BTCUSDT_261225", "btcusdt_261225@aggTrade"),
        ("币安人生USDT", "币安人生usdt@aggTrade"),
        ("ÄÖUSDT", "ÄÖusdt@aggTrade"),
        # Lowered as Python does, this one letter would become two characters.
        ("İUSDT", "İusdt@aggTrade"),
    ],
)
def test_only_ascii_letters_of_a_stream_are_lowered(name: str, expected: str) -> None:
    """The exchange lowers ASCII and leaves every other letter as it is."""
    assert expected == symbol(name, "X").stream


def test_quote_volumes_have_the_decimals_of_both() -> None:
    """Price times quantity, exactly."""
    assert symbol("BTCUSDT", "BTC").quote_scale == 5


def test_a_symbol_cannot_be_changed() -> None:
    """What is shared by all parts is fixed."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        symbol("BTCUSDT", "BTC").price_scale = 3  # type: ignore[misc]
