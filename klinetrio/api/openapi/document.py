"""The OpenAPI document of an application, made from its routes and what is declared beside them."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from klinetrio import __version__
from klinetrio.api.openapi.operation import JSON, operation_of
from klinetrio.api.problems import PROBLEMS


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from quart import Quart

    from klinetrio.api.openapi.operation import Answer, Operation
    from klinetrio.api.openapi.schemas import Schema
    from klinetrio.api.parameters import Parameter

_VARIABLE = re.compile(r"<(?:[^:<>]*:)?([^<>]+)>")

_ABOUT = """\
Klines (candlesticks) of every symbol and interval: live, exact, proved complete.

Numbers with decimals are texts at the symbol's own precision, times are UTC milliseconds, \
`BTC_USDT` and `BTCUSDT` both name the symbol. An error is an HTTP status with \
`{"error": {"code", "message"}}`, but where a group of routes speaks another protocol."""


def described_routes(app: Quart) -> Iterator[tuple[str, Operation | None]]:
    """Yield the path of each route, as OpenAPI writes it, and what is declared of it.

    They come in the order in which they were added: first what is asked for most.
    """
    for rule in app.url_map.iter_rules():
        yield (
            _VARIABLE.sub(r"{\1}", rule.rule),
            operation_of(app.view_functions[rule.endpoint]),
        )


def make_document(app: Quart) -> dict[str, Any]:
    """Return the document of all routes of ``app``.

    Raises:
        LookupError: Nothing is declared of a route.
    """
    shown: dict[str, Schema] = {}
    paths, tags = {}, {}
    for path, operation in described_routes(app):
        if operation is None:
            raise LookupError(f"{path}: nothing is declared of this route")
        tags[operation.tag] = {"name": operation.tag}
        paths[path] = {"get": _hoisted(_of_operation(path, operation), shown)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "klinetrio", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": list(tags.values()),
        "paths": paths,
        "components": {"schemas": dict(sorted(shown.items()))},
    }


def _of_operation(path: str, operation: Operation) -> dict[str, Any]:
    described = {
        "operationId": re.sub(r"\W+", "_", path).removeprefix("_") or "root",
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [_of_parameter(each, path) for each in operation.parameters],
        "responses": _responses(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.example:
        described["x-example-query"] = operation.example
    return described


def _of_parameter(parameter: Parameter, path: str) -> dict[str, Any]:
    in_path = f"{{{parameter.name}}}" in path
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": "path" if in_path else "query",
        "description": parameter.description,
        "required": in_path or parameter.required,
        "schema": parameter.schema(),
    }
    if described["schema"].get("type") == "array":
        described |= {"style": "form", "explode": False}
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    """Return what is answered, by status; where a status has several answers, in one of its forms."""
    responses = {str(each.status): _of_answer(each) for each in operation.answers}
    for status, codes in sorted(_by_status(operation.codes).items()):
        words = [f"`{code}`: {PROBLEMS[code].meaning}" for code in codes]
        entry = {"schema": operation.errors(codes)}
        known = responses.setdefault(str(status), {"description": "", "content": {}})
        before = known["content"].get(JSON)
        if before:
            entry = {"schema": {"anyOf": [before["schema"], entry["schema"]]}}
        known["content"][JSON] = entry
        known["description"] = "\n\n".join(filter(None, [known["description"], *words]))
        if any(PROBLEMS[code].retry for code in codes):
            seconds = {"type": "string", "pattern": "^[0-9]+$"}
            header = {"description": "Seconds, if waiting may help.", "schema": seconds}
            known["headers"] = known.get("headers", {}) | {"Retry-After": header}
    return dict(sorted(responses.items()))


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    grouped: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        grouped.setdefault(PROBLEMS[code].status, []).append(code)
    return grouped


def _of_answer(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answer.schema is not None:
        content[JSON] = {"schema": answer.schema}
        if answer.example is not None:
            content[JSON]["example"] = answer.example
    for media_type, schema in answer.others.items():
        content[media_type] = {} if schema is None else {"schema": schema}
    described: dict[str, Any] = {
        "description": answer.description or HTTPStatus(answer.status).phrase,
        "content": content,
    }
    if answer.headers:
        described["headers"] = {name: {"schema": schema} for name, schema in answer.headers.items()}
    return described


def _hoisted(part: Any, shown: dict[str, Schema]) -> Any:
    """Return a part of the document with its titled schemas replaced by references.

    Args:
        part: Any of it.
        shown: Takes the titled schemas, by title.

    Raises:
        ValueError: Two different schemas have one title.
    """
    if isinstance(part, list | tuple):
        return [_hoisted(each, shown) for each in part]
    if not isinstance(part, dict):
        return part
    hoisted = {name: _hoisted(value, shown) for name, value in part.items() if name != "example"}
    if "example" in part:
        hoisted["example"] = part["example"]
    title = part.get("title")
    if not (isinstance(title, str) and "type" in part):
        return hoisted
    if shown.setdefault(title, hoisted) != hoisted:
        raise ValueError(f"{title}: two different schemas have this title")
    return {"$ref": f"#/components/schemas/{title}"}
