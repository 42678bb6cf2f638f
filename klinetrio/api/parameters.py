"""Query strings: strict, so that a mistyped name is an error and not a default.

A parameter is declared once: what reads it from the query also says, in the document of the
interface, what it may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

import attrs

from klinetrio.api.openapi import schemas
from klinetrio.api.problems import ApiError, quoted


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.api.openapi.schemas import Schema

# The longest sensible one, with fifty symbols, is about half of that.
MAX_QUERY = 2048


class Parameter(Protocol):
    """What the document shows of a parameter."""

    @property
    def name(self) -> str:
        """As it is given."""
        ...

    @property
    def description(self) -> str:
        """What it is for."""
        ...

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        ...

    def schema(self) -> Schema:
        """Return what its value may be."""
        ...


@attrs.frozen(kw_only=True)
class Integer:
    """An integer in ASCII digits.

    Attributes:
        name: As it is given.
        description: What it is for.
        lowest: The least that is allowed.
        highest: The most that is allowed.
        default: What it is if it is not given; None if that is another thing.
        word: A word that may stand instead; the caller looks for it first.
        required: It has to be given.
    """

    name: str
    description: str
    lowest: int = 0
    highest: int
    default: int | None = None
    word: str = ""
    required: bool = False

    def read(self, given: Mapping[str, str]) -> int | None:
        """Return the number given, else the default.

        Raises:
            ApiError: It is no number in ASCII digits, out of bounds, or missing.
        """
        if self.required:
            _expect(given, self.name)
        words = f"{self.word} or " if self.word else ""
        found = integer(given, self.name, lowest=self.lowest, highest=self.highest, words=words)
        return self.default if found is None else found

    def schema(self) -> Schema:
        """Return what it may be."""
        bounds = schemas.integer(minimum=self.lowest, maximum=self.highest)
        schema: Schema = {"anyOf": [bounds, {"const": self.word}]} if self.word else bounds
        return schema if self.default is None else schema | {"default": self.default}


@attrs.frozen(kw_only=True)
class Text:
    """A text, or one of some texts.

    Attributes:
        name: As it is given.
        description: What it is for.
        values: What it may be; anything if empty.
        checked: Whether anything else is refused here; if not, the caller does, with a better word.
        required: It has to be given.
    """

    name: str
    description: str
    values: Sequence[str] = ()
    checked: bool = True
    required: bool = False

    def read(self, given: Mapping[str, str]) -> str | None:
        """Return what was given, None if nothing was.

        Raises:
            ApiError: It is none of the values.
        """
        found = given.get(self.name)
        if found is None or not self.values or not self.checked or found in self.values:
            return found
        raise bad_parameter(f"{self.name}: expected one of {' '.join(self.values)}", found)

    def demand(self, given: Mapping[str, str]) -> str:
        """Return what was given.

        Raises:
            ApiError: Nothing was.
        """
        _expect(given, self.name)
        return self.read(given) or ""

    def schema(self) -> Schema:
        """Return what it may be."""
        return schemas.one_of(self.values) if self.values else schemas.text()


@attrs.frozen(kw_only=True)
class Names:
    """Some names with commas between them, each once.

    Attributes:
        name: As it is given.
        description: What it is for.
        highest: How many names there may be.
        required: It has to be given.
    """

    name: str
    description: str
    highest: int
    required: bool = True

    def demand(self, given: Mapping[str, str]) -> list[str]:
        """Return the names.

        Raises:
            ApiError: There are none, or too many.
        """
        _expect(given, self.name)
        names = given[self.name].split(",", self.highest)
        if len(names) > self.highest:
            expected = f"{self.name}: expected at most {self.highest} names"
            raise bad_parameter(expected, given[self.name])
        return names

    def schema(self) -> Schema:
        """Return what it may be."""
        items = schemas.text(minLength=1)
        return schemas.array(items, minItems=1, maxItems=self.highest, uniqueItems=True)


def read_query(raw: bytes, parameters: Sequence[Parameter]) -> dict[str, str]:
    """Return what a query string gives of some parameters.

    Raises:
        ApiError: As of ``parse_query``.
    """
    return parse_query(raw, [each.name for each in parameters])


def parse_query(raw: bytes, allowed: Sequence[str] | None) -> dict[str, str]:
    """Return the parameters of a query string.

    Args:
        raw: The query string.
        allowed: The names that are known; None takes any.

    Raises:
        ApiError: Not UTF-8, a name that is not allowed, or one that comes twice.
    """
    try:
        pairs = parse_qsl(
            raw.decode(), keep_blank_values=True, strict_parsing=bool(raw), errors="strict"
        )
    except ValueError:
        raise bad_parameter("expected a query string name=value&..., in UTF-8", raw) from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if allowed is not None and name not in allowed:
            expected = f"one of {', '.join(allowed)}" if allowed else "no parameters"
            raise ApiError(400, "unknown_parameter", f"expected {expected}, was {quoted(name)}")
        if name in parameters:
            message = f"{name}: expected once, was given repeatedly"
            raise ApiError(400, "repeated_parameter", message)
        parameters[name] = value
    return parameters


def integer(
    given: Mapping[str, str], name: str, *, lowest: int, highest: int, words: str = ""
) -> int | None:
    """Return a parameter's number, None if it was not given.

    Args:
        given: All parameters.
        name: Which one.
        lowest: The least that is allowed.
        highest: The most that is allowed.
        words: What else is expected, for the message.

    Raises:
        ApiError: It is no number in ASCII digits, or out of bounds.
    """
    text = given.get(name)
    if text is None:
        return None
    digits = text.removeprefix("-") if lowest < 0 else text
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= len(str(highest))
    if not (is_number and lowest <= int(text) <= highest):
        raise bad_parameter(f"{name}: expected {words}an integer from {lowest} to {highest}", text)
    return int(text)


def bad_parameter(expected: str, given: str | bytes) -> ApiError:
    """Return the error that says what was expected instead of what was given."""
    return ApiError(400, "bad_parameter", f"{expected}, was {quoted(given)}")


def _expect(given: Mapping[str, str], name: str) -> None:
    if name not in given:
        raise ApiError(400, "missing_parameter", f"{name}: expected a value, was not given")
