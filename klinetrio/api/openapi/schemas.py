"""JSON Schema, as OpenAPI 3.1 has it (2020-12), of what is asked for and answered.

A schema with a title appears once in the document, under that name (``document.py``); every other
one stands where it is used.
"""

from __future__ import annotations

import inspect
import re
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import attrs


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Schema = dict[str, Any]

_DECIMAL = r"^[0-9]+(\.[0-9]+)?$"
_CHANGE = r"^-?[0-9]+(\.[0-9]+)?$"

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def text(description: str = "", **more: Any) -> Schema:
    """Return the schema of a text."""
    return _typed("string", description, more)


def integer(description: str = "", **more: Any) -> Schema:
    """Return the schema of an integer."""
    return _typed("integer", description, more)


def number(description: str = "", **more: Any) -> Schema:
    """Return the schema of a number that is for people: durations, shares."""
    return _typed("number", description, more)


def truth(description: str = "") -> Schema:
    """Return the schema of true or false."""
    return _typed("boolean", description, {})


def decimal(description: str = "") -> Schema:
    """Return the schema of an exact number, which is a text at the symbol's decimals."""
    return text(description, pattern=_DECIMAL)


def change(description: str = "") -> Schema:
    """Return the schema of an exact number that may be negative."""
    return text(description, pattern=_CHANGE)


def time_ms(description: str = "") -> Schema:
    """Return the schema of a moment in UTC milliseconds."""
    return integer(description, minimum=0, format="int64")


def one_of(values: Sequence[str], description: str = "") -> Schema:
    """Return the schema of one of some texts."""
    return text(description, enum=list(values))


def array(items: Schema, description: str = "", **more: Any) -> Schema:
    """Return the schema of an array whose entries are all alike."""
    return _typed("array", description, {"items": items, **more})


def by_name(values: Schema, description: str = "") -> Schema:
    """Return the schema of an object whose names are data."""
    return _typed("object", description, {"additionalProperties": values})


def or_null(schema: Schema) -> Schema:
    """Return the schema of what may be unknown."""
    return {**schema, "type": [schema["type"], "null"]}


def record(
    properties: Mapping[str, Schema],
    *,
    title: str = "",
    description: str = "",
    optional: Sequence[str] = (),
) -> Schema:
    """Return the schema of an object with known fields.

    Args:
        properties: The fields in their order; all are always there.
        title: The name under which it appears in the document; none if empty.
        description: What it is.
        optional: Fields that may be left out, after all.
    """
    required = [name for name in properties if name not in optional]
    named = {"title": title} if title else {}
    return named | _typed(
        "object", description, {"properties": dict(properties), "required": required}
    )


def fields_of(cls: type) -> dict[str, Schema]:
    """Return the fields of an attrs class, as ``attrs.asdict`` shows them, with their docstrings."""
    words = dict(_ATTRIBUTE.findall(inspect.getdoc(cls) or ""))
    return {
        each.name: _of_type(each.type, " ".join(words.get(each.name, "").split()))
        for each in attrs.fields(attrs.resolve_types(cls))
    }


def _of_type(given: Any, description: str) -> Schema:
    if isinstance(given, UnionType):
        schema: Schema = {"type": [_TYPES[each] for each in get_args(given)]}
    elif get_origin(given) is dict:
        schema = by_name(_of_type(get_args(given)[1], ""))
    else:
        schema = {"type": _TYPES[given]}
    return schema | ({"description": description} if description else {})


def _typed(kind: str, description: str, more: Mapping[str, Any]) -> Schema:
    words = {"description": description} if description else {}
    return {"type": kind, **words, **more}
