"""The routes of the page: a real server on loopback, a real HTTP client."""

from __future__ import annotations

import gzip
import hashlib
import tomllib
import zipfile
from contextlib import asynccontextmanager
from email import message_from_bytes
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
import trio
from hatchling.builders.wheel import WheelBuilder

from klinetrio.api.app import create_app
from klinetrio.api.hub import PushHub
from klinetrio.api.page_files import page_files
from tests.api.memory_market import MemoryMarket
from tests.api.wire import ask, request, serving


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.api.wire import Served

LIMIT_S = 60.0
ROOT = Path(__file__).parents[2]
PAGE = files("klinetrio.api") / "page"


@asynccontextmanager
async def served_page(
    market: MemoryMarket | None = None,
) -> AsyncIterator[tuple[httpx2.AsyncClient, Served]]:
    """Serve the page, by default as while the daemon is starting; yield a client."""
    with trio.fail_after(LIMIT_S):
        app = create_app(lambda: market, PushHub(lambda: market), trio.Event())
        async with (
            serving(app) as served,
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{served.port}", trust_env=False
            ) as client,
        ):
            yield client, served


async def test_page_is_there_while_the_daemon_is_starting() -> None:
    """Whoever opens it then sees it, and is told by it; data are still answered 503."""
    async with served_page() as (client, _):
        page = await client.get("/")
        script = await client.get("/assets/main.js")
        data = await client.get("/api/v1/symbols")

    assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["content-type"])
    assert page.content == (PAGE / "index.html").read_bytes()
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (503, "no-store") == (data.status_code, data.headers["cache-control"])


async def test_every_file_that_the_page_names_is_served() -> None:
    """No link of the page and no import of a module leads nowhere."""
    named = {
        word.strip("\"'./")
        for file in PAGE.iterdir()
        if file.is_file()
        for line in file.read_text("utf-8").splitlines()
        for word in line.replace("assets/", " ./").replace('"', " ").split()
        if word.startswith("./")
    }
    assert {"main.js", "style.css", "icon.svg", "lightweight-charts.NOTICE.txt"} < named
    async with served_page() as (client, _):
        for name in named:
            assert (await client.get(f"/assets/{name}")).status_code == 200, name


async def test_browser_is_held_to_what_the_daemon_serves() -> None:
    """Every file comes with the policy: no script, no style and no connection from elsewhere."""
    async with served_page() as (client, _):
        for path in ("/", *(f"/assets/{name}" for name in page_files())):
            headers = (await client.get(path)).headers
            policy = dict(
                rule.split(" ", 1) for rule in headers["content-security-policy"].split("; ")
            )
            assert {
                "default-src": "'none'",
                "script-src": "'self'",
                "connect-src": "'self'",
            }.items() <= policy.items(), path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in str(policy)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_file_that_a_browser_has_is_not_sent_again(encoding: str) -> None:
    """Asked for by its tag it is answered 304, without a body; by another tag it is sent."""
    headers = {"Accept-Encoding": encoding}
    async with served_page() as (client, _):
        first = await client.get("/assets/main.js", headers=headers)
        tag = first.headers["etag"]
        again = await client.get("/assets/main.js", headers={**headers, "If-None-Match": tag})
        other = await client.get("/assets/main.js", headers={**headers, "If-None-Match": '"x"'})

    assert "no-cache" == first.headers["cache-control"]
    assert (304, b"", tag) == (again.status_code, again.content, again.headers["etag"])
    assert (200, first.content) == (other.status_code, other.content)


async def test_compressed_variant_is_the_file_under_a_tag_of_its_own() -> None:
    """A client that takes gzip gets it, and no cache can mix up the two."""
    path = "/assets/lightweight-charts.standalone.production.js"
    async with served_page() as (_, served):
        replies = [
            await ask(served, request(path, headers=f"Connection: close\r\n{accepts}"))
            for accepts in ("Accept-Encoding: gzip\r\n", "", "Accept-Encoding: gzip;q=0\r\n")
        ]
    (short_head, short), (plain_head, plain), (refused_head, refused) = (
        reply.split(b"\r\n\r\n", 1) for reply in replies
    )

    assert gzip.decompress(short) == plain == refused
    assert len(short) < len(plain) / 2
    assert b"content-encoding: gzip" in short_head.lower()
    assert b"content-encoding" not in plain_head.lower() + refused_head.lower()
    tags = [
        line
        for head in (short_head, plain_head, refused_head)
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"etag")
    ]
    assert tags[0] != tags[1] == tags[2]


@pytest.mark.parametrize(
    "path",
    [
        "/assets/",
        "/assets/none.js",
        "/assets/vendor.toml",
        "/assets/../app.py",
        "/assets/..%2fapp.py",
        "/assets/%2e%2e/app.py",
        "/assets/vendor/lightweight-charts.NOTICE.txt",
        "/assets/page_files.py",
    ],
)
async def test_only_files_of_the_table_are_found(path: str) -> None:
    """Whatever a name looks like: it is in the table or not found."""
    async with served_page(MemoryMarket()) as (_, served):
        reply = await ask(served, request(path, headers="Connection: close\r\n"))
    assert reply.startswith(b"HTTP/1.1 404"), reply


def test_shipped_library_is_the_published_one() -> None:
    """Its checksum is the one on record, and its head names the version and the licence."""
    recorded = tomllib.loads((PAGE / "vendor" / "vendor.toml").read_text("utf-8"))
    (library,) = recorded.values()
    body = (PAGE / "vendor" / library["file"]).read_bytes()
    head = body[:400].decode()

    assert library["sha256"] == hashlib.sha256(body).hexdigest()
    assert f"v{library['version']}" in head
    assert "Apache License 2.0" in head


def test_attribution_is_on_the_page_word_by_word() -> None:
    """The library's NOTICE and the link that it asks for are in the page's text."""
    notice = (PAGE / "vendor" / "lightweight-charts.NOTICE.txt").read_text("utf-8").split()
    index = (PAGE / "index.html").read_text("utf-8")
    words = index.replace("<", " <").replace(">", "> ").split()

    assert notice == [word for word in words if word in notice]
    assert 'href="https://www.tradingview.com/"' in index


def test_wheel_carries_the_page_and_its_licences(tmp_path: Path) -> None:
    """What is installed has every file of the page, and tells under which licences."""
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(about))

    page = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "klinetrio/api/page").rglob("*")
        if file.is_file()
    }
    assert page <= names
    assert "MIT AND Apache-2.0" == metadata["License-Expression"]
    assert {
        "LICENSE",
        "klinetrio/api/page/vendor/lightweight-charts.LICENSE.txt",
        "klinetrio/api/page/vendor/lightweight-charts.NOTICE.txt",
    } == set(metadata.get_all("License-File") or ())
