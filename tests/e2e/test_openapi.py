"""A whole daemon, asked whatever its OpenAPI document allows, and what it does not allow."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import trio
from jsonschema_rs import Draft202012Validator

from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from tests.e2e.world import LIMIT_S, open_world


START = 1_786_172_370_000
# A minute of the exchange in ten seconds, so that a busy machine keeps up with it.
RATE = 6

PROGRAM = Path(__file__).with_name("ask_by_document.py")

# Asked once more, for fields that the document does not have.
CLOSED: dict[str, dict[str, str]] = {
    "/api/v1/klines": {"symbol": "BTC_USDT", "interval": "1m"},
    "/api/v1/symbols": {},
    "/api/v1/intervals": {},
    "/api/v1/tickers": {},
    "/api/v1/status": {},
    "/api/v1/audit": {},
    "/fapi/v1/ping": {},
    "/fapi/v1/time": {},
    "/fapi/v1/klines": {"symbol": "BTCUSDT", "interval": "1m"},
    "/fapi/v1/aggTrades": {"symbol": "BTCUSDT"},
    "/fapi/v1/ticker/price": {},
    "/fapi/v1/ticker/24hr": {},
    "/udf/config": {},
    "/udf/symbols": {"symbol": "BTC_USDT"},
    "/udf/search": {},
    "/udf/history": {"symbol": "BTC_USDT", "resolution": "1"},
}


def closed(schema: Any) -> Any:
    """Return a schema that lets in nothing but what it names."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        shut.setdefault("additionalProperties", False)
    return shut


async def test_daemon_answers_as_its_document_says(tmp_path: Path) -> None:
    """No 5xx, no undocumented status, content type or field, whatever is asked."""
    market = SeededMarket(
        seed=7,
        symbols=4,
        trades_per_second=10,
        history_minutes=300,
        clock=SimClock(START, rate=RATE),
    )
    with trio.fail_after(4 * LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await daemon.until_ready()
            command = [sys.executable, str(PROGRAM), daemon.running.address]
            asked = await trio.run_process(command, capture_stdout=True)
            statuses = json.loads(asked.stdout)
            document = await daemon.get("/openapi.json")
            answers = {path: await daemon.get(path, **given) for path, given in CLOSED.items()}

    # schemathesis leaves out the route from which it has the document.
    assert set(document["paths"]) - {"/openapi.json"} == set(statuses)
    for path, told in statuses.items():
        is_socket = "101" in document["paths"][path]["get"]["responses"]
        # No random name is one of a file; the page's own tests ask for each of them.
        assert is_socket or path.startswith("/assets/") or 200 in told, (path, told)
    for path, answer in answers.items():
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        whole = closed(schema["schema"]) | {"components": closed(document["components"])}
        Draft202012Validator(whole).validate(answer)
