"""How symbols may be called."""

from __future__ import annotations

import pytest

from klinetrio.api.names import Catalog
from klinetrio.api.problems import ApiError
from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.symbol import Symbol


def symbol(name: str, base: str, quote: str = "USDT") -> Symbol:
    """Return a symbol of which only the names matter."""
    return Symbol(name, base, quote, 0, 2, 3)


def catalog(*symbols: Symbol) -> Catalog:
    """Return a catalog with two intervals."""
    return Catalog(symbols, (INTERVALS["1m"], INTERVALS["1h"]))


@pytest.mark.parametrize("name", ["BTC_USDT", "BTCUSDT", "btc_usdt", "btcusdt", "BtC_uSdT"])
def test_both_names_in_any_case(name: str) -> None:
    """The public and the exchange's name both name the symbol."""
    names = catalog(symbol("ETHUSDT", "ETH"), symbol("BTCUSDT", "BTC"))

    assert names.row_of(name, "1h") == 3
    assert names.series_of(3) == {"symbol": "BTC_USDT", "interval": "1h"}


def test_delivery_futures_keep_their_date() -> None:
    """A dated contract is not its perpetual."""
    names = catalog(symbol("BTCUSDT", "BTC"), symbol("BTCUSDT_261225", "BTC"))

    assert names.row_of("BTC_USDT", "1m") == 0
    assert names.row_of("btc_usdt_261225", "1m") == 2
    assert names.row_of("btcusdt_261225", "1m") == 2


def test_only_ascii_letters_are_folded() -> None:
    """Letters beyond ASCII are taken as they are, as the exchange takes them."""
    names = catalog(symbol("币安人生USDT", "币安人生"), symbol("éUSDT", "é"))

    assert names.row_of("币安人生_usdt", "1m") == 0
    with pytest.raises(ApiError, match="expected one of"):
        names.row_of("ÉUSDT", "1m")


def test_shared_public_name_is_nobodys() -> None:
    """Two symbols that would share a public name are shown by their exchange names."""
    names = catalog(symbol("ABUSDT", "AB"), symbol("AB2USDT", "AB"), symbol("CUSDT", "C"))

    assert names.shown == ["ABUSDT", "AB2USDT", "C_USDT"]
    assert names.row_of("AB2USDT", "1m") == 2
    with pytest.raises(ApiError, match="was 'AB_USDT'"):
        names.row_of("AB_USDT", "1m")


def test_exchange_name_goes_before_public_name() -> None:
    """A public name that is another symbol's exchange name means that other symbol."""
    names = catalog(symbol("AUSDT", "A"), symbol("A_USDT", "X"))

    assert names.shown == ["AUSDT", "X_USDT_USDT"]
    assert names.row_of("A_USDT", "1m") == 2


@pytest.mark.parametrize(
    ("name", "interval", "code"),
    [
        ("", "1m", "unknown_symbol"),
        ("NOPE", "1m", "unknown_symbol"),
        ("BTCUSDT" * 50, "1m", "unknown_symbol"),
        ("BTCUSDT", "", "unknown_interval"),
        ("BTCUSDT", "1H", "unknown_interval"),
        ("BTCUSDT", "5m", "unknown_interval"),
    ],
)
def test_unknown_names_are_refused(name: str, interval: str, code: str) -> None:
    """Intervals are matched exactly, as 1m and 1M are two of them."""
    with pytest.raises(ApiError) as raised:
        catalog(symbol("BTCUSDT", "BTC")).row_of(name, interval)

    assert code == raised.value.code
    assert len(raised.value.message) < 150
