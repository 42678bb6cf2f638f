"""Binance's USD-M REST interface: the few routes that klinetrio needs.

Every call passes the weight budget, has a deadline, and ends in an answer or in an error of ours.
Weights were measured in 2026-10 (the documentation is off by one at 100 and 500).
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import trio

from klinetrio import __version__
from klinetrio.errors import (
    RESTRICTED_LOCATION,
    DecodeError,
    ExchangeError,
    NetworkError,
    ProxyError,
    RateLimited,
    Refused,
)
from klinetrio.exchange.budget import SHARE, Priority, WeightBudget
from klinetrio.exchange.codec import decode_agg_trade, decode_klines
from klinetrio.exchange.http import DialedTransport


if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.dial import Dialer

# From the request to the whole answer.  exchangeInfo is 51 kB compressed.
REQUEST_TIMEOUT_S = 20.0

# exchangeInfo is 1.2 MB; nothing else comes near.
MAX_BODY = 16 * 2**20

AGG_TRADES_WEIGHT = 20
MAX_AGG_TRADES = 1_000
MAX_KLINES = 1_500

# How long to stay quiet when the server does not say: the next minute for 429, the shortest ban
# for 418.
_QUIET_S = {429: 60.0, 418: 120.0}

# No ban lasts longer; a number beyond it is a slip, and must not silence us for years.  (Source:
# Binance's general info page: bans scale from 2 minutes to 3 days.)
MAX_QUIET_S = 3 * 86_400.0

# Of the codes of a bad request those above this one say that something is wrong over there, and -1021
# that a clock is; the others that the question is, which no repetition changes.  (Source: Binance's
# error codes.)
_THEIR_CODES = -1020
_CLOCK_CODE = -1021

# Numbers in headers; longer ones are no weights and no seconds.
_NUMBER = re.compile(r"[0-9]{1,9}")

_OK = 200
_BAD_REQUEST = 400


def klines_weight(limit: int) -> int:
    """Return the weight of a klines call (measured; the documentation is off by one)."""
    for most, weight in ((100, 1), (500, 2), (1_000, 5)):
        if limit <= most:
            return weight
    return 10


class BinanceRest:
    """The exchange's REST interface.

    Args:
        client: An httpx client on our dialler, with the base URL set.
        budget: Grants weight.
        clock: The exchange's clock.
    """

    def __init__(
        self, client: httpx2.AsyncClient, budget: WeightBudget, clock: ExchangeClock
    ) -> None:
        self._client = client
        self._clock = clock
        self.budget = budget
        self.calls = 0
        self.failures = 0

    def now_ms(self) -> int:
        """Return the exchange's time as it is known here, UTC ms; nothing is asked."""
        return self._clock.now_ms()

    async def server_time(self) -> int:
        """Return the exchange's time, UTC ms."""
        body = await self._get("/fapi/v1/time", {}, 1, Priority.LIVE)
        if not isinstance(body, dict) or type(body.get("serverTime")) is not int:
            raise DecodeError("field", f"expected serverTime, was {str(body)[:80]}")
        return int(body["serverTime"])

    async def exchange_info(self) -> object:
        """Return the parsed list of symbols."""
        return await self._get("/fapi/v1/exchangeInfo", {}, 1, Priority.LIVE)

    async def klines(
        self,
        symbol: Symbol,
        interval: Interval,
        *,
        start: int,
        end: int,
        limit: int = MAX_KLINES,
        priority: Priority = Priority.SEED,
    ) -> npt.NDArray[np.int64]:
        """Return the bars whose open time lies in ``[start, end]``, ascending, shape ``(n, 13)``.

        At most ``limit``, the first ones; a bar that is still open comes too.
        """
        bars = interval.ordinal(end) - interval.ordinal(start) + 1
        limit = min(max(1, bars), limit)
        params: dict[str, str | int] = {
            "symbol": symbol.name,
            "interval": interval.name,
            "startTime": start,
            "endTime": end,
            "limit": limit,
        }
        body = await self._get("/fapi/v1/klines", params, klines_weight(limit), priority)
        return decode_klines(body, symbol)

    async def agg_trades(
        self,
        symbol: Symbol,
        *,
        from_id: int | None = None,
        limit: int = MAX_AGG_TRADES,
        priority: Priority = Priority.LIVE,
    ) -> list[AggTrade]:
        """Return trades from ``from_id`` on, ascending; the newest ones if it is None.

        Raises:
            ExchangeError: The exchange no longer has that id; it then answers with something
                else, or refuses.
        """
        params: dict[str, str | int] = {"symbol": symbol.name, "limit": limit}
        if from_id is not None:
            params["fromId"] = from_id
        body = await self._get("/fapi/v1/aggTrades", params, AGG_TRADES_WEIGHT, priority)
        if not isinstance(body, list):
            raise DecodeError("field", f"expected a list of trades, was {str(body)[:80]}")
        trades = [decode_agg_trade(each, symbol) for each in body]
        if from_id is not None and trades and trades[0].agg_id != from_id:
            # Seen in 2024: an id that is too old was silently answered with the newest trades.
            raise ExchangeError(
                _OK, 0, f"asked {symbol.name} from {from_id}, got {trades[0].agg_id}"
            )
        return trades

    async def _get(
        self, path: str, params: dict[str, str | int], weight: int, priority: Priority
    ) -> object:
        await self.budget.take(weight, priority)
        self.calls += 1
        try:
            with trio.fail_after(REQUEST_TIMEOUT_S):
                response = await self._client.get(path, params=params)
        except trio.TooSlowError as error:
            self.failures += 1
            raise NetworkError(f"{path} gave no answer in {REQUEST_TIMEOUT_S:.0f} s") from error
        except httpx2.HTTPError as error:
            self.failures += 1
            kind = ProxyError if "proxy socks5" in str(error) else NetworkError
            raise kind(f"{path}: {str(error) or type(error).__name__}") from error
        used = response.headers.get("x-mbx-used-weight-1m", "")
        if _NUMBER.fullmatch(used):
            self.budget.report(int(used))
        if response.status_code != _OK:
            self.failures += 1
            raise self._error(response)
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise DecodeError("garbage", f"expected JSON from {path}") from error

    def _error(self, response: httpx2.Response) -> ExchangeError:
        status = response.status_code
        body: Any = None
        with suppress(orjson.JSONDecodeError):
            body = orjson.loads(response.content)
        code = body.get("code", 0) if isinstance(body, dict) else 0
        text = str(body.get("msg", "")) if isinstance(body, dict) else response.text[:200]
        ours = isinstance(code, int) and code < _THEIR_CODES and code != _CLOCK_CODE
        if status == RESTRICTED_LOCATION or (status == _BAD_REQUEST and ours):
            return Refused(status, code, text)
        if status not in _QUIET_S:
            return ExchangeError(status, code, text)
        seconds = self._quiet_seconds(response, text)
        self.budget.close_for(seconds)
        return RateLimited(status, code, text, seconds)

    def _quiet_seconds(self, response: httpx2.Response, text: str) -> float:
        """Return how long a 429 or 418 wants us to be quiet, by header, text or custom."""
        header = response.headers.get("retry-after", "")
        if _NUMBER.fullmatch(header):
            return min(float(header), MAX_QUIET_S)
        banned = re.search(r"banned until (\d{10,16})\b", text)
        if banned:
            return min(max(1.0, self._clock.seconds_until(int(banned[1]))), MAX_QUIET_S)
        return _QUIET_S[response.status_code]


@asynccontextmanager
async def open_rest(
    base_url: str,
    dialer: Dialer,
    clock: ExchangeClock,
    *,
    ssl_context: ssl.SSLContext | None = None,
    weight_share: float = SHARE,
) -> AsyncIterator[BinanceRest]:
    """Open the REST interface; its connections are closed on leaving."""
    client = httpx2.AsyncClient(
        base_url=base_url,
        transport=DialedTransport(dialer, ssl_context, max_body=MAX_BODY),
        # Never a proxy from the environment: the dialler alone decides.
        trust_env=False,
        timeout=REQUEST_TIMEOUT_S,
        headers={"User-Agent": f"klinetrio/{__version__}", "Accept-Encoding": "gzip"},
    )
    try:
        yield BinanceRest(client, WeightBudget(clock, share=weight_share), clock)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await client.aclose()
