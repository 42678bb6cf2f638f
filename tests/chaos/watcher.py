"""Follows everything that a daemon pushes, asks it at random, and keeps what it called final."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs
import httpx2
import orjson
import trio
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS
from tests.e2e.world import scaled


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.chaos.judge import Told
    from tests.chaos.keeper import Keeper

# What a daemon brings about by being killed, or by not being there yet.
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, HandshakeError)

_POLL_EVERY_S = 0.1
_LIMITS = (1, 2, 5, 20, 100)


@attrs.define
class Records:
    """What was told by all daemons.

    Attributes:
        pushed: Bars pushed as final and complete.
        served: Bars served by REST as final and complete.
        finals: First finals pushed.
        corrections: Finals pushed again with a higher revision.
        answers: Bars served by REST in all.
        broken: Rules of the interfaces that were broken.
        highest_weight: The most REST weight that any daemon counted in a minute.
    """

    pushed: Told = attrs.field(factory=dict)
    served: Told = attrs.field(factory=dict)
    finals: int = 0
    corrections: int = 0
    answers: int = 0
    broken: list[str] = attrs.field(factory=list)
    highest_weight: int = 0


class RulesOfOneConnection:
    """Holds one push connection to its rules.

    A bar is final once, and again only with a higher revision; a series never goes back to an older
    open bar; and before the next open bar comes every one since the last open one was final.  (What
    was missed while no daemon ran is history, which is not pushed.)
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._opened: dict[tuple[str, str], int] = {}
        self._revisions: dict[tuple[str, str, int], int] = {}

    def take(self, bar: dict[str, Any]) -> None:
        """Take note of an update."""
        symbol = bar["symbol"].replace("_", "")
        if bar["is_final"]:
            self._take_final((symbol, bar["interval"], bar["open_time"]), bar)
        else:
            self._take_open(symbol, bar["interval"], bar["open_time"])

    def _take_final(self, key: tuple[str, str, int], bar: dict[str, Any]) -> None:
        records = self._records
        before = self._revisions.get(key)
        if before is not None and bar["revision"] <= before:
            records.broken.append(f"{key} final again: revision {bar['revision']} after {before}")
        self._revisions[key] = bar["revision"]
        records.finals += before is None
        records.corrections += before is not None
        if bar["is_complete"]:
            records.pushed.setdefault(key, set()).add(tuple(scaled(bar)))

    def _take_open(self, symbol: str, interval: str, open_time: int) -> None:
        before = self._opened.get((symbol, interval), open_time)
        self._opened[symbol, interval] = open_time
        if open_time < before:
            self._records.broken.append(f"{symbol} {interval} went from {before} to {open_time}")
        while before < open_time:
            if (symbol, interval, before) not in self._revisions:
                text = f"{symbol} {interval} {before} was open and never final"
                self._records.broken.append(f"{text}, now open is {open_time}")
            before = INTERVALS[interval].next_open(before)


@asynccontextmanager
async def _open_socket(host: str, port: int) -> AsyncIterator[WebSocketConnection]:
    # Not open_websocket: it leaves the socket open when the server was the first to close.
    stream = await trio.open_tcp_stream(host, port)
    try:
        async with trio.open_nursery() as nursery:
            yield await wrap_client_stream(nursery, stream, f"{host}:{port}", "/api/v1/ws")
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


@attrs.define
class Watcher:
    """Watches one daemon after the other."""

    keeper: Keeper
    symbols: Sequence[str]
    seed: int
    records: Records = attrs.field(factory=Records)

    async def run(self) -> None:
        """Watch for ever."""
        number = -1
        while True:
            running = await self.keeper.current(after=number)
            number = running.number
            await running.serving.wait()
            if running.gone.is_set():
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, running.address)
                nursery.start_soon(self._ask, running.address, Random(f"{self.seed} {number}"))
                await running.gone.wait()
                nursery.cancel_scope.cancel()

    async def _follow(self, address: str) -> None:
        """Subscribe to everything and read until the daemon is gone."""
        target = urlsplit(address)
        assert target.hostname is not None
        assert target.port is not None
        wanted = [
            {"symbol": name, "interval": each}
            for name in self.symbols
            for each in DEFAULT_INTERVALS
        ]
        message = orjson.dumps({"op": "subscribe", "klines": wanted}).decode()
        while True:
            try:
                async with _open_socket(target.hostname, target.port) as socket:
                    await socket.send_message(message)
                    await self._read(socket)
            except* (*_GONE, ConnectionClosed):
                # Not ready yet, or gone; in that case this is cancelled.
                pass
            await trio.sleep(0.1)

    async def _read(self, socket: Any) -> None:
        rules = RulesOfOneConnection(self.records)
        while True:
            text = await socket.get_message()
            message = orjson.loads(text)
            if message["type"] == "kline.update":
                rules.take(message["data"])
            elif message["type"] == "error":
                self.records.broken.append(text)

    async def _ask(self, address: str, rng: Random) -> None:
        """Ask for bars of any series, and for the weight used, until the daemon is gone."""
        async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=10) as client:
            while True:
                await trio.sleep(_POLL_EVERY_S)
                symbol, interval = rng.choice(self.symbols), rng.choice(DEFAULT_INTERVALS)
                params: dict[str, str | int] = {
                    "symbol": symbol,
                    "interval": interval,
                    "limit": rng.choice(_LIMITS),
                }
                try:
                    klines = await client.get("/api/v1/klines", params=params)
                    status = await client.get("/api/v1/status")
                except httpx2.HTTPError:
                    continue
                if klines.status_code == 200:
                    self._take_klines(symbol, interval, klines.json())
                if status.status_code == 200:
                    weight = status.json()["rest"]["highest_weight"]
                    self.records.highest_weight = max(self.records.highest_weight, weight)

    def _take_klines(self, symbol: str, interval: str, bars: list[dict[str, Any]]) -> None:
        opens = [bar["open_time"] for bar in bars]
        self.records.answers += len(bars)
        if sorted(set(opens)) != opens:
            self.records.broken.append(f"{symbol} {interval} served out of order: {opens}")
        for bar in bars:
            if bar["is_final"] and bar["is_complete"]:
                key = (symbol, interval, bar["open_time"])
                self.records.served.setdefault(key, set()).add(tuple(scaled(bar)))
