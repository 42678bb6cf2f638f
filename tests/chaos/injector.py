"""Does to the exchange, the proxy and the daemon what the schedule says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.interval import MINUTE
from klinetrio.sim.socks5_faults import NORMAL, Mode, ProxyBehaviour


if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from tests.chaos.keeper import Keeper
    from tests.chaos.schedule import Fault
    from tests.e2e.world import World

_NOTICE = '{"e":"serverShutdown","E":1}'

_MODES = {
    "proxy_refuse": Mode.REFUSE,
    "proxy_stall": Mode.STALL_ACCEPTED,
    "proxy_stall_greeted": Mode.STALL_GREETED,
    "proxy_slow": Mode.BYTE_BY_BYTE,
    "proxy_cut": Mode.CUT,
}

_BANNED = {"code": -1003, "msg": "Way too many requests."}


@attrs.define
class Injector:
    """Lets things go wrong.

    Args:
        world: Exchange and proxy.
        keeper: Of the daemon.
        symbols: By rank of liveliness.
        counts: Of the faults that happened, by kind.
        say: Told of every fault as it happens.
    """

    world: World
    keeper: Keeper
    symbols: Sequence[str]
    counts: Counter[str]
    say: Callable[[str], None]
    _killing: trio.Lock = attrs.field(factory=trio.Lock)
    _start: float = 0.0

    async def run(self, schedule: Sequence[Fault]) -> None:
        """Let everything happen in its time; returns when all is over."""
        self._start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in schedule:
                await trio.sleep_until(self._start + fault.at_s)
                nursery.start_soon(self._happen, fault)

    def _tell(self, fault: Fault) -> None:
        moment = self.world.exchange.market.clock.now_ms()
        self.say(f"{trio.current_time() - self._start:8.2f} s  exchange {moment}  {fault}")
        self.counts[fault.kind] += 1

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self.world.exchange.calm()
        self.world.proxy.behaviour = NORMAL

    async def _happen(self, fault: Fault) -> None:
        exchange, kind = self.world.exchange, fault.kind
        if kind == "kill":
            # One at a time, or one kill would do for two.
            async with self._killing:
                await self.keeper.kill(after_s=fault.for_s, serving=bool(fault.number))
                self._tell(fault)
            return
        self._tell(fault)
        if kind == "stop":
            await self.keeper.stop()
        elif kind in _MODES or kind == "tunnels_cut":
            await self._break_proxy(fault)
        elif kind.startswith("rest_"):
            await self._break_rest(fault)
        elif kind in {"reset_all", "close_all"}:
            exchange.drop_connections() if kind == "reset_all" else exchange.close_connections()
        else:
            async with trio.open_nursery() as nursery:
                for rank in fault.symbols:
                    nursery.start_soon(self._break_stream, fault, rank)

    async def _break_stream(self, fault: Fault, rank: int) -> None:
        exchange, name = self.world.exchange, self.symbols[rank]
        match fault.kind:
            case "reset":
                exchange.drop_connections(name)
            case "close":
                exchange.close_connections(name)
            case "notice":
                exchange.inject(name, _NOTICE)
            case "lose":
                # As their rates fall with the rank: else a quiet one would be deaf for ever.
                exchange.lose(name, 1 + fault.number // (1 + rank))
            case "hold_back":
                exchange.hold_back(name, self._until_bar_end() + fault.for_s)
            case "silence" | "deaf":
                exchange.mute(name, pongs=fault.kind == "deaf")
                await trio.sleep(fault.for_s)
                exchange.unmute(name)
            case other:
                raise AssertionError(f"no such fault: {other}")

    def _until_bar_end(self) -> float:
        clock = self.world.exchange.market.clock
        now = clock.now_ms()
        return clock.trio_time_of(now - now % MINUTE + MINUTE) - trio.current_time()

    async def _break_proxy(self, fault: Fault) -> None:
        proxy = self.world.proxy
        # Only whoever comes anew meets it, so all have to.
        proxy.cut_tunnels()
        if fault.kind == "tunnels_cut":
            return
        behaviour = proxy.behaviour = ProxyBehaviour(_MODES[fault.kind], fault.number)
        await trio.sleep(fault.for_s)
        if proxy.behaviour is behaviour:
            proxy.behaviour = NORMAL

    async def _break_rest(self, fault: Fault) -> None:
        exchange, quiet = self.world.exchange, {"Retry-After": str(1 + fault.number % 2)}
        match fault.kind:
            case "rest_429":
                exchange.rest_failure(429, _BANNED, fault.number, headers=quiet)
            case "rest_418":
                exchange.rest_failure(418, _BANNED, fault.number, headers=quiet)
            case "rest_503":
                exchange.rest_failure(503, b"<html>busy</html>", fault.number)
            case "rest_garbage":
                exchange.rest_failure(200, b'[{"a":', fault.number)
            case "rest_silence":
                exchange.rest_failure(None, count=fault.number)
            case other:
                raise AssertionError(f"no such fault: {other}")
        # A daemon that is just not there must not find the faults of minutes all at once.
        failures = exchange.rest.failures
        made = failures[-1]
        await trio.sleep(fault.for_s)
        failures[:] = [each for each in failures if each is not made]
