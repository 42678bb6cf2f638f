"""A simulated exchange that speaks Binance's bytes, and a SOCKS5 proxy to reach it through.

It is the demo's exchange, the tests' exchange and the benchmark's load.  The way of a trade::

    market (seeded, filled, scripted or recorded) -> ledger: tape and true bars -> REST
                                                  -> faults -> hub -> connections (WebSocket)

The market knows the true bars, so whatever was made of its trades can be judged.
"""

from klinetrio.sim.clock import SimClock
from klinetrio.sim.exchange import (
    ExchangeStatistics,
    SimulatedExchange,
    open_simulated_exchange,
)
from klinetrio.sim.faults import FaultPlan
from klinetrio.sim.filled import FillMarket
from klinetrio.sim.fills import Shares
from klinetrio.sim.idset import IdSet
from klinetrio.sim.instruments import Instrument
from klinetrio.sim.market import Market
from klinetrio.sim.recorded import RecordedMarket
from klinetrio.sim.scripted import ScriptedMarket, plain_instrument
from klinetrio.sim.seeded import SeededMarket
from klinetrio.sim.socks5 import Socks5Proxy, serve_socks5
from klinetrio.sim.socks5_faults import NORMAL, Mode, ProxyBehaviour
from klinetrio.sim.tape import SimTrade
from klinetrio.sim.weight import RateLimits


__all__ = [
    "NORMAL",
    "ExchangeStatistics",
    "FaultPlan",
    "FillMarket",
    "IdSet",
    "Instrument",
    "Market",
    "Mode",
    "ProxyBehaviour",
    "RateLimits",
    "RecordedMarket",
    "ScriptedMarket",
    "SeededMarket",
    "Shares",
    "SimClock",
    "SimTrade",
    "SimulatedExchange",
    "Socks5Proxy",
    "open_simulated_exchange",
    "plain_instrument",
    "serve_socks5",
]
