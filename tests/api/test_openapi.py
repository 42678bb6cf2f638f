"""The document of the interface: complete, in itself sound, and readable without a network."""

from __future__ import annotations

import ast
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from jsonschema_rs import Draft202012Validator
from quart import Quart

from klinetrio.api.app import create_app
from klinetrio.api.described.market import KLINE
from klinetrio.api.hub import PushHub
from klinetrio.api.openapi.document import described_routes, make_document
from klinetrio.api.openapi.operation import Answer, Operation, describe
from klinetrio.api.openapi.schemas import record, text
from klinetrio.api.problems import PROBLEMS
from klinetrio.formats.series import COLUMNS
from tests.api.memory_market import MemoryMarket
from tests.api.test_rest import client_of


if TYPE_CHECKING:
    from collections.abc import Iterator

API = Path(__file__).parents[2] / "klinetrio" / "api"


def an_app() -> Quart:
    """Return the application, which nobody serves."""
    return create_app(lambda: None, PushHub(lambda: None), trio.Event())


def parts_of(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(document, dict):
        yield document
        for value in document.values():
            yield from parts_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from parts_of(value)


def contents_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where and what for each form of each answer."""
    for path, item in document["paths"].items():
        for status, response in item["get"]["responses"].items():
            for media_type, content in response["content"].items():
                yield f"{path} {status} {media_type}", content


def test_every_route_is_declared_and_every_declaration_is_a_route() -> None:
    """The paths of the document are those of the application."""
    app = an_app()

    undeclared = [path for path, operation in described_routes(app) if operation is None]

    assert [] == undeclared
    assert {path for path, _ in described_routes(app)} == set(make_document(app)["paths"])


def test_route_without_a_declaration_is_told_of() -> None:
    """It cannot be left out of the document by mistake."""
    app = Quart("test")

    @app.get("/undeclared/<name>")
    async def undeclared(name: str) -> str:
        return name

    with pytest.raises(LookupError, match=r"/static|/undeclared/\{name\}"):
        make_document(app)


def test_one_title_has_one_schema() -> None:
    """Two different schemas under one name would make one of them wrong."""
    app = Quart("test", static_folder=None)

    @app.get("/one")
    @describe(Operation("One", "T", (Answer("", record({"a": text()}, title="Same")),)))
    async def one() -> str:
        return ""

    @app.get("/other")
    @describe(Operation("Other", "T", (Answer("", record({"b": text()}, title="Same")),)))
    async def other() -> str:
        return ""

    with pytest.raises(ValueError, match="Same"):
        make_document(app)


def test_references_lead_somewhere_and_names_are_unique() -> None:
    """A generator of clients can use the document."""
    document = make_document(an_app())

    targets = {each["$ref"] for each in parts_of(document) if "$ref" in each}
    names = [item["get"]["operationId"] for item in document["paths"].values()]

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert targets == known
    assert len(names) == len(set(names))


def test_examples_are_what_their_schemas_say() -> None:
    """Nobody is shown what the daemon would not answer."""
    document = make_document(an_app())
    checked = 0

    for where, content in contents_of(document):
        if "example" in content:
            whole = content["schema"] | {"components": document["components"]}
            Draft202012Validator(whole).validate(content["example"])
            checked += 1
            assert content["example"] is not None, where

    assert checked >= 3


def test_kline_has_the_fields_of_every_format() -> None:
    """In their order."""
    assert list(COLUMNS) == list(KLINE["properties"])


def raised_codes() -> Iterator[tuple[str, int, str]]:
    """Yield where, status and code of every ``ApiError`` in the source that names them."""
    for path in sorted(API.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name(id="ApiError"),
                    args=[status, ast.Constant(value=str(code)), *_],
                ):
                    yield path.name, status_of(status), code


def status_of(node: ast.expr) -> int:
    """Return a status that stands in the source as a number or as one of ``HTTPStatus``."""
    match node:
        case ast.Constant(value=int(status)):
            return status
        case ast.Attribute(attr=name):
            return int(HTTPStatus[name])
    raise AssertionError(ast.dump(node))


# Said on a WebSocket, where there are no statuses.
PUSH_CODES = {
    "bad_message",
    "not_json",
    "not_text",
    "too_many_bars",
    "too_many_resumes",
    "too_many_subscriptions",
    "unknown_op",
}


def test_every_code_that_can_be_answered_is_explained() -> None:
    """With the status that it comes with, and without codes that nobody answers."""
    raised = list(raised_codes())

    assert len(raised) > 15
    for where, status, code in raised:
        if code not in PUSH_CODES:
            assert (code, PROBLEMS[code].status) == (code, status), where
    # Made from a status by the application: a plain request for a WebSocket, a path without a route.
    assert set(PROBLEMS) - {code for _, _, code in raised} == {"bad_request", "not_found"}


async def test_document_and_page_are_there_while_the_daemon_starts() -> None:
    """Whoever waits for it may read meanwhile."""
    async with client_of(None) as client:
        document = await client.get("/openapi.json")
        page = await client.get("/docs")
        style = await client.get("/docs/style.css")

    assert (200, "application/json") == (document.status_code, document.headers["content-type"])
    assert "3.1.0" == document.json()["openapi"]
    assert page.headers["content-type"].startswith("text/html")
    assert style.headers["content-type"].startswith("text/css")


async def test_page_shows_every_route_and_needs_nothing_from_elsewhere() -> None:
    """No script, no foreign address, and a policy that would not let any in."""
    async with client_of(MemoryMarket()) as client:
        document = (await client.get("/openapi.json")).json()
        reply = await client.get("/docs")
    page = reply.text

    for path, item in document["paths"].items():
        assert f'id="{item["get"]["operationId"]}"' in page
        assert path in page
    assert "<script" not in page
    assert "style=" not in page
    assert not re.search(r"(?:href|src)=\"(?:https?:)?//", page)
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")


async def test_links_of_the_page_lead_somewhere() -> None:
    """Each anchor is there, and each request that can be tried is answered."""
    market = MemoryMarket()
    for row in range(market.capacity):
        market.trade(row)
    market.swap()
    async with client_of(market) as client:
        page = (await client.get("/docs")).text
        links = re.findall(r'href="([^"]+)"', page)
        anchors = set(re.findall(r' id="([^"]+)"', page))
        tried = [link.replace("&amp;", "&") for link in links if link.startswith("/")]
        answers = {link: (await client.get(link)).status_code for link in tried}

    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert any("symbol=BTC_USDT" in link for link in tried)
    assert set(answers.values()) == {200}, answers
