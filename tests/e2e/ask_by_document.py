"""Asks a daemon whatever its OpenAPI document allows, and what it does not allow.

A program of its own, since it computes without a pause: ``ask_by_document.py ADDRESS`` prints the
statuses that came, by route, as JSON, or ends with an answer that is not as the document says.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)


# Of each route and mode: half a minute for all of them on a quiet machine.
EXAMPLES = 15

# That parameters which are fine alone may contradict each other is not said in the document.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

# Routes that leave alone what they do not know.
LENIENT = (
    "/assets/",
    "/api/v1/ws",
    "/docs",
    "/fapi/",
    "/healthz",
    "/market",
    "/metrics",
    "/openapi.json",
    "/private",
    "/public",
    "/readyz",
    "/stream",
    "/udf/",
    "/ws",
)

# What most random symbols and intervals never are: those that lead to an answer.
LIKELY = {"symbol": "BTC_USDT", "pair": "BTCUSDT", "interval": "1m", "resolution": "1"}


def ask_everything(address: str) -> dict[str, list[int]]:
    """Ask every route of the document; return the statuses that came, by route.

    Raises:
        Exception: An answer is not as the document says.
    """
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    statuses: dict[str, list[int]] = {}
    for found in document.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # what is an Err has no ok, and fails here
        told = statuses.setdefault(operation.path, [])
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            ask_one(operation, mode, told)
    return statuses


def ask_one(operation: Any, mode: GenerationMode, told: list[int]) -> None:
    """Ask one route with many queries, half of them with what leads further."""
    lenient = operation.path == "/" or operation.path.startswith(LENIENT)
    checks = CHECKS if lenient else [*CHECKS, negative_data_rejection]

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode), keys=st.sets(st.sampled_from([*LIKELY]))
    )
    def ask(case: Any, keys: set[str]) -> None:
        if mode is GenerationMode.POSITIVE:
            case.query.update({key: LIKELY[key] for key in keys if key in case.query})
        reply = case.call_and_validate(checks=checks, timeout=300)
        told.append(reply.status_code)

    if mode is GenerationMode.POSITIVE or operation.query:
        ask()


if __name__ == "__main__":
    print(json.dumps(ask_everything(sys.argv[1])))
