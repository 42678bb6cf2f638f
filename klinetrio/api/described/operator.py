"""The routes for whoever runs the daemon."""

from __future__ import annotations

from klinetrio.api.described.market import NO_PARAMETERS
from klinetrio.api.described.status import AGREEMENT, ALL
from klinetrio.api.openapi import schemas
from klinetrio.api.openapi.operation import Answer, Operation, error_schema


TAG = "Operation"

STATUS = Operation(
    summary="Everything about the running daemon",
    tag=TAG,
    description=(
        "Connections, holes, trades, queues, swaps, database, REST weight, push clients. Fields may"
        " be added at any time."
    ),
    answers=(Answer("As of now.", ALL),),
    problems=NO_PARAMETERS,
)

AUDIT = Operation(
    summary="How each symbol's minutes stood to the exchange's",
    tag=TAG,
    description="The names of the counts are explained in the README's section on the audit.",
    answers=(
        Answer(
            "All symbols.",
            schemas.array(
                schemas.record(
                    {
                        "symbol": schemas.text(),
                        **AGREEMENT,
                        "audited_until": schemas.or_null(
                            schemas.time_ms("Null if it was not its turn yet.")
                        ),
                    },
                    title="Audit",
                )
            ),
        ),
    ),
    problems=NO_PARAMETERS,
)

HEALTH = Operation(
    summary="Is it alive",
    tag=TAG,
    description="Answers while the event loop turns, also while the daemon is starting.",
    answers=(
        Answer("It is.", schemas.record({"status": {"const": "ok"}}), example={"status": "ok"}),
    ),
    problems=("query_too_long",),
    always=True,
)

_NOT_READY = {
    **error_schema(("not_ready",))["properties"],
    "reasons": schemas.array(schemas.text(), "Each reason, in words."),
}

READINESS = Operation(
    summary="Is it ready",
    tag=TAG,
    description=(
        "Ready is: nearly all connections are up, every symbol knows its past, and the database"
        " takes what it is given."
    ),
    answers=(
        Answer(
            "It is.", schemas.record({"status": {"const": "ready"}}), example={"status": "ready"}
        ),
        Answer("It is not.", schemas.record(_NOT_READY), status=503),
    ),
)

METRICS = Operation(
    summary="Metrics for Prometheus",
    tag=TAG,
    answers=(
        Answer(
            "In the text format of Prometheus, or as OpenMetrics if `Accept` wants it.",
            others={
                "text/plain": schemas.text(),
                "application/openmetrics-text": schemas.text(),
            },
        ),
    ),
)
