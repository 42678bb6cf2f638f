"""The document as a page: rendered here, so that a browser needs neither scripts nor a network."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import quote

import orjson
from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup, escape


_CODE = re.compile(r"`([^`]*)`")


def render_page(document: dict[str, Any], symbol: str) -> str:
    """Return the page.

    Args:
        document: As of ``make_document``.
        symbol: Takes part in the requests that can be tried.
    """
    return _template().render(
        document=document,
        groups=_groups(document, symbol),
        schemas=document["components"]["schemas"],
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("klinetrio.api.openapi", "."),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": _words, "pretty": _pretty, "kind": _kind}
    return environment.get_template("page.html")


def _groups(document: dict[str, Any], symbol: str) -> list[dict[str, Any]]:
    """Return the routes by tag, each with its path and a request that can be tried."""
    groups: dict[str, list[dict[str, Any]]] = {each["name"]: [] for each in document["tags"]}
    for path, item in document["paths"].items():
        operation = item["get"]
        query = operation.get("x-example-query", "").replace("{symbol}", quote(symbol))
        needs = [each["name"] for each in operation["parameters"] if each["required"]]
        target = None if "101" in operation["responses"] else path + (query and f"?{query}")
        if needs and not query:
            target = None
        groups[operation["tags"][0]].append({"path": path, "target": target, **operation})
    return [{"name": name, "routes": routes} for name, routes in groups.items()]


def _words(text: str) -> Markup:
    """Return a description: backticks become code, blank lines end paragraphs."""
    paragraphs = str(escape(text)).split("\n\n")
    return Markup("").join(
        Markup("<p>{}</p>").format(Markup(_CODE.sub(r"<code>\1</code>", each)))  # noqa: S704  (escaped above)
        for each in paragraphs
        if each
    )


def _pretty(example: Any) -> str:
    return orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()


def _kind(schema: dict[str, Any]) -> str:
    """Return what a schema allows, in a few words."""
    match schema:
        case {"anyOf": others}:
            words = " or ".join(_kind(each) for each in others)
        case {"const": value}:
            words = str(value)
        case {"enum": values}:
            words = " | ".join(values)
        case {"$ref": target}:
            words = target.rpartition("/")[2]
        case {"type": "array", "items": items}:
            words = f"array of {_kind(items)}"
        case {"type": kind, "minimum": lowest, "maximum": highest}:
            words = f"{kind} from {lowest} to {highest}"
        case {"type": [*kinds]}:
            words = " or ".join(kinds)
        case _:
            words = schema.get("type", "anything")
    return words
