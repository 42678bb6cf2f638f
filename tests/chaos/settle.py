"""Gives a daemon time to repair, and says what may be expected of it then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS


if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.keeper import Keeper
    from tests.chaos.repeated import PlayedMarket

# A stalled dial ends after 10 s, a request after 20, and a backoff is 30 s at most; a symbol whose
# trade cannot be believed is asked for once a minute.
REPAIR_S = 600.0

_MOST_BARS = 1_500


async def until_ready(keeper: Keeper) -> None:
    """Wait until the first daemon knows the past of all symbols."""
    running = await keeper.current()
    await running.serving.wait()
    async with _client(running.address) as client:
        while await _get(client, "/readyz") is None:
            await trio.sleep(0.1)


async def settle(
    market: PlayedMarket, keeper: Keeper, *, symbols: Sequence[str], since: int
) -> tuple[dict[str, int], list[str]]:
    """Wait until the daemon has nothing left to repair and serves every bar as proved.

    Args:
        market: What happened.
        keeper: Of the daemon.
        symbols: What it carries.
        since: When the first daemon was ready, UTC ms.

    Returns:
        By symbol the time up to which bars have to be proved: the last trade before the daemon said
        that it was done.  And what is wrong, in words: it never was.
    """
    until = _newest_trades(market, symbols)
    with trio.move_on_after(REPAIR_S) as patience:
        running = await keeper.current()
        await running.serving.wait()
        async with _client(running.address) as client:
            while not is_calm(await _get(client, "/api/v1/status")):
                await trio.sleep(0.2)
            until = _newest_trades(market, symbols)
            # What happened until then may still be on its way.
            for symbol, end in until.items():
                for interval in DEFAULT_INTERVALS:
                    while not await _has_all(client, symbol, interval, since=since, until=end):
                        await trio.sleep(0.2)
    if patience.cancelled_caught:
        return until, [f"expected the daemon to be done in {REPAIR_S:.0f} s, and it was not"]
    return until, []


def is_calm(status: Any) -> bool:
    """Tell whether a daemon says that nothing is left to repair."""
    if not isinstance(status, dict):
        return False
    named = status["symbols"]
    return (
        all(each["state"] == "up" for each in status["connections"])
        and not any(named[each]["count"] for each in ("seeding", "open_holes", "halted"))
        and not status["rest"]["repairs_under_way"]
    )


def _client(address: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=address, trust_env=False, timeout=10)


def _newest_trades(market: PlayedMarket, symbols: Sequence[str]) -> dict[str, int]:
    market.catch_up()
    tapes = {name: market.ledger.book(name).tape for name in symbols}
    return {name: tape[-1].time if len(tape) else 0 for name, tape in tapes.items()}


async def _has_all(
    client: httpx2.AsyncClient, symbol: str, name: str, *, since: int, until: int
) -> bool:
    """Tell whether every bar that ended after ``since`` and by ``until`` is served as proved."""
    interval = INTERVALS[name]
    first, last = interval.open_of(since), interval.previous_open(interval.open_of(until))
    if last < first:
        return True
    first = max(first, last - (_MOST_BARS - 1) * interval.length)
    params = {"symbol": symbol, "interval": name, "limit": _MOST_BARS}
    bars = await _get(client, "/api/v1/klines", start_time=first, end_time=last, **params)
    if not isinstance(bars, list) or len(bars) < (last - first) // interval.length + 1:
        return False
    return all(bar["is_final"] and bar["is_complete"] for bar in bars)


async def _get(client: httpx2.AsyncClient, path: str, **params: Any) -> Any:
    """Return the answer to a GET, None if there is none that can be used."""
    try:
        response = await client.get(path, params=params)
    except httpx2.HTTPError:
        return None
    return response.json() if response.status_code == 200 else None
