"""Which instruments the seeded exchange lists, and how lively each is.

The well-known names come first, then ``SIM021USDT`` and so on.  Beside them stand the rows that a
client must know how to leave out: other contract types, and symbols that do not trade.
"""

from __future__ import annotations

from random import Random

import attrs

from klinetrio.domain.interval import DAY, HOUR, MINUTE
from klinetrio.domain.symbol import Symbol
from klinetrio.sim.instruments import Instrument


@attrs.frozen
class Profile:
    """One instrument and how it trades.

    Attributes:
        instrument: What is listed.
        price: Around what its price moves, at the price scale.
        lot: A usual trade, in steps of the quantity.
        trades_per_second: Aggregate trades, on average.
    """

    instrument: Instrument
    price: int
    lot: int
    trades_per_second: float

    @property
    def trades_per_minute(self) -> float:
        """Aggregate trades per minute, on average."""
        return self.trades_per_second * 60

    @property
    def busy_minutes(self) -> float:
        """The share of minutes with a trade."""
        return min(1.0, max(0.3, self.trades_per_minute / 3))


# Base, quote, price at the price scale, price scale, tick, quantity scale.
_KNOWN = (
    ("BTC", "USDT", 83_137_90, 2, 10, 3),
    ("ETH", "USDT", 2_841_35, 2, 1, 3),
    ("币安人生", "USDT", 1_433_000, 7, 1000, 0),
    ("SOL", "USDT", 151_2400, 4, 100, 2),
    ("XRP", "USDT", 2_1875, 4, 1, 1),
    ("DOGE", "USDT", 187_540, 6, 10, 0),
    ("BNB", "USDT", 901_430, 3, 10, 2),
    ("ADA", "USDT", 56_230, 5, 10, 0),
    ("1000PEPE", "USDT", 65_432, 7, 1, 0),
    ("BTC", "USDC", 83_140_0, 1, 1, 3),
    ("LINK", "USDT", 14_821, 3, 1, 2),
    ("AVAX", "USDT", 18_4350, 4, 10, 0),
    ("LTC", "USDT", 96_41, 2, 1, 3),
    ("SUI", "USDT", 2_104_500, 6, 100, 1),
    ("TRX", "USDT", 28_731, 5, 1, 0),
    ("DOT", "USDT", 3_142, 3, 1, 1),
    ("NEAR", "USDT", 2_251, 3, 1, 0),
    ("UNI", "USDT", 6_4830, 4, 10, 0),
    ("BCH", "USDT", 512_37, 2, 1, 3),
    ("1000SHIB", "USDT", 9_216, 6, 1, 0),
)

# About what a usual trade is worth, in the quote asset.  At seven decimals and 1,333 trades a
# second a month's quote volume is 100 * 1e7 * 1,333 * 2.6e6 s = 3.5e18: still within 63 bits.
_USUAL_TRADE = 100
_MAX_QUOTE_SCALE = 7

# Trades per second of the sleepy tail: most of its minutes hold one trade or none.
_SLEEPY = 1 / 60


def make_catalogue(
    *, seed: int, symbols: int, trades_per_second: float, now_ms: int, history_ms: int
) -> list[Profile]:
    """Return the listing: ``symbols`` perpetuals that trade, then the exceptional rows.

    Activity is heavy-tailed: the first symbol trades most, the last tenth hardly ever.
    """
    rng = Random(seed)
    sleepy = symbols // 10 + (symbols > 1)
    weights = [1 / (1 + rank) for rank in range(symbols - sleepy)]
    busy_total = max(0.0, trades_per_second - sleepy * _SLEEPY)
    rates = [busy_total * weight / sum(weights) for weight in weights] + [_SLEEPY] * sleepy
    oldest = now_ms - history_ms
    profiles = []
    for index, rate in enumerate(rates):
        listed = oldest + int(history_ms * _listing_share(index, rng))
        profiles.append(_perpetual(index, listed - listed % MINUTE, rate, rng))
    return profiles + _exceptions(now_ms, oldest - oldest % MINUTE)


def _listing_share(index: int, rng: Random) -> float:
    # The old names were there from the first day, at the same minute; one listing in five is
    # younger than a twentieth of the history.
    if index < len(_KNOWN) // 2:
        return 0.0
    return rng.random() if index % 5 else 0.95 + 0.05 * rng.random()


def _perpetual(index: int, listed: int, rate: float, rng: Random) -> Profile:
    if index < len(_KNOWN):
        base, quote, price, price_scale, tick, quantity_scale = _KNOWN[index]
    else:
        base, quote = f"SIM{index + 1:03d}", "USDT"
        price_scale = rng.randint(2, 6)
        quantity_scale = rng.randint(0, min(3, _MAX_QUOTE_SCALE - price_scale))
        price, tick = rng.randint(2_000, 900_000), rng.choice((1, 1, 1, 5, 10))
    symbol = Symbol(base + quote, base, quote, listed, price_scale, quantity_scale)
    return _profile(Instrument(symbol, tick), price, rate)


def _profile(instrument: Instrument, price: int, rate: float) -> Profile:
    worth = price * instrument.step
    scale = 10**instrument.symbol.quote_scale
    return Profile(instrument, price, max(1, _USUAL_TRADE * scale // worth), rate)


def _exceptions(now_ms: int, oldest: int) -> list[Profile]:
    """Return what a client that wants trading perpetuals has to leave out."""
    delivery = now_ms - now_ms % DAY + 60 * DAY + 8 * HOUR
    gold = Symbol("XAUUSDT", "XAU", "USDT", oldest, 2, 3)
    quarterly = Symbol("BTCUSDT_261225", "BTC", "USDT", oldest, 1, 3)
    settling = Symbol("LUNAUSDT", "LUNA", "USDT", oldest, 4, 0)
    pending = Symbol("SOONUSDT", "SOON", "USDT", now_ms - now_ms % HOUR + 7 * DAY, 4, 1)
    tradfi = Instrument(gold, contract_type="TRADIFI_PERPETUAL", underlying_type="COMMODITY")
    future = Instrument(quarterly, contract_type="CURRENT_QUARTER", delivery_time=delivery)
    return [
        _profile(tradfi, 4_210_55, 0.2),
        _profile(future, 83_700_0, 0.1),
        _profile(Instrument(settling, status="SETTLING"), 1_0000, 0.0),
        _profile(Instrument(pending, status="PENDING_TRADING"), 1_0000, 0.0),
    ]
