"""The routes of the page at ``/``."""

from __future__ import annotations

from klinetrio.api.openapi.operation import Answer, Operation
from klinetrio.api.openapi.schemas import text
from klinetrio.api.parameters import Text


TAG = "The page"

MEDIA_TYPES = ("text/javascript", "text/css", "text/html", "text/plain", "image/svg+xml")

_UNCHANGED = Answer("It is as it was, by `If-None-Match`.", status=304)

PAGE = Operation(
    summary="The page: charts, and a list of all symbols",
    tag=TAG,
    answers=(Answer("The page.", others={"text/html": text()}), _UNCHANGED),
    problems=("query_too_long",),
    always=True,
)

ASSET = Operation(
    summary="A file of the page",
    tag=TAG,
    parameters=(Text(name="name", description="The file's name.", required=True),),
    answers=(
        Answer("The file.", others=dict.fromkeys(MEDIA_TYPES, text())),
        _UNCHANGED,
    ),
    problems=("query_too_long", "not_found"),
    always=True,
)
