"""What a route is asked, what it answers, and how it says no: declared beside the route.

    @app.get("/api/v1/intervals")
    @describe(INTERVALS)
    async def intervals() -> Response: ...

The parameters of an ``Operation`` are the objects that read the query (``api/parameters.py``), so
that the document and the handler have the same names, bounds and defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from klinetrio.api.openapi.schemas import one_of, record, text


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from quart import Quart

    from klinetrio.api.openapi.schemas import Schema
    from klinetrio.api.parameters import Parameter

View = TypeVar("View", bound="Callable[..., Any]")

_MARK = "__operation__"

JSON = "application/json"

# What any route may answer, but for those that have to answer always.
COMMON_PROBLEMS = ("query_too_long", "starting", "internal")


@attrs.frozen
class Answer:
    """One way to answer.

    Attributes:
        description: What it says.
        schema: Of its JSON; None if it is none.
        example: As JSON.
        status: HTTP status.
        others: Schemas of other forms, by media type; None where there is nothing to say.
        headers: Those worth knowing, by name.
    """

    description: str
    schema: Schema | None = None
    example: Any = None
    status: int = 200
    others: Mapping[str, Schema | None] = attrs.field(factory=dict)
    headers: Mapping[str, Schema] = attrs.field(factory=dict)


def error_schema(codes: Sequence[str]) -> Schema:
    """Return the schema of a v1 error with one of some codes."""
    code = one_of(codes) if codes else text()
    error = record({"code": code, "message": text("For people.")})
    return record({"error": error})


@attrs.frozen
class Operation:
    """What a route does.

    Attributes:
        summary: In a few words.
        tag: Which group of routes it belongs to.
        answers: When all is well, and in special cases.
        description: In more words; backticks mark code, blank lines paragraphs.
        parameters: Of the query and of the path.
        problems: Codes of ``api/problems.py``, beside the ``COMMON_PROBLEMS``.
        example: The query of a request that can be tried, without its question mark; may name
            ``{symbol}``.
        errors: Returns the schema of an error with some codes, in this group's form.
        always: It answers even while the daemon starts, and has no problems but its own.
    """

    summary: str
    tag: str
    answers: Sequence[Answer]
    description: str = ""
    parameters: Sequence[Parameter] = ()
    problems: Sequence[str] = ()
    example: str = ""
    errors: Callable[[Sequence[str]], Schema] = error_schema
    always: bool = False

    @property
    def codes(self) -> Sequence[str]:
        """All codes that it may answer with."""
        return (*self.problems, *(() if self.always else COMMON_PROBLEMS))


def describe(operation: Operation) -> Callable[[View], View]:
    """Return a decorator that says what a route does; it stands below ``@app.get``."""

    def mark(view: View) -> View:
        setattr(view, _MARK, operation)
        return view

    return mark


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return what was said of a route, None if nothing was."""
    operation: Operation | None = getattr(view, _MARK, None)
    return operation


def answers_always(app: Quart, endpoint: str | None) -> bool:
    """Tell whether a route was declared to answer while the daemon is starting, too."""
    operation = operation_of(app.view_functions[endpoint]) if endpoint else None
    return operation is not None and operation.always
