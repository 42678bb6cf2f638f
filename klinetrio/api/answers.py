"""``GET /api/v1/klines``: bars as documents, whole or streamed.

An answer of up to ``MAX_LIMIT`` bars is sent whole, with its length.  A longer one is streamed, in
chunks, and holds one page at a time.  Its first page is read before anything is sent, so that most
failures are still told by a status; a later one breaks the transfer off, which every client
notices: the chunk at the end is missing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from klinetrio.api.negotiation import choose_format
from klinetrio.api.pages import KlinePages, in_time
from klinetrio.api.problems import ApiError
from klinetrio.api.selection import MAX_LIMIT, parse_klines_query
from klinetrio.formats.encoder import make_encoder
from klinetrio.formats.text import CsvEncoder, JsonEncoder
from klinetrio.httpd import ReplyBrokenOff


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from klinetrio.api.names import OpenMarket
    from klinetrio.api.pages import Page
    from klinetrio.formats.encoder import Encoder
    from klinetrio.formats.series import Series

# 50 bars take 0.3 ms to turn into text (measured); trades are not kept waiting longer than that.
BARS_PER_STEP = 50

# At about 1 MB each (``PAGE_BARS``) they hold 16 MB.  More ask in vain, as those that are under
# way keep the readers busy.
MAX_STREAMS = 16


class KlineAnswers:
    """Answers requests for klines.

    Args:
        opened: The market and its names.
    """

    def __init__(self, opened: OpenMarket) -> None:
        self._opened = opened
        self._streams = trio.CapacityLimiter(MAX_STREAMS)
        # Of all answers together one step at a time: trades wait for one of them, not for all.
        self._turn = trio.Lock()

    async def reply(self) -> Response:
        """Return the answer to the current request.

        Raises:
            ApiError: It cannot be answered.
        """
        catalog = self._opened.catalog
        query = parse_klines_query(request.query_string, catalog)
        name = choose_format(query.format, request.accept_mimetypes)
        series = {row: catalog.series(row) for row in query.rows}
        encoder = await _make_encoder(name, list(series.values()))
        pages = KlinePages(self._opened.market, query)
        document = Document(pages, encoder, series, self._turn)
        if query.limit is not None and query.limit * len(query.rows) <= MAX_LIMIT:
            reply = Response(await document.whole())
        else:
            reply = await self._streamed(document)
        reply.content_type = encoder.content_type
        reply.headers["Vary"] = "Accept"
        return reply

    async def _streamed(self, document: Document) -> Response:
        if request.http_version == "1.0":
            # It knows no chunks: whether an answer is whole could not be told.
            raise ApiError(505, "http_version", "a streamed answer expects HTTP/1.1, was HTTP/1.0")
        if not self._streams.available_tokens:
            message = f"expected at most {MAX_STREAMS} long answers at a time"
            raise ApiError(503, "too_many_streams", message, retry_after_s=5)
        if request.method == "HEAD":
            document.leave_out()
        first = await document.piece()
        reply = Response(_StreamedBody(document, first, self._streams))
        # Every page and every send has a bound of its own; together they take what they take.
        reply.timeout = None
        return reply


class Document:
    """One answer, piece by piece.

    Args:
        pages: The bars.
        encoder: Turns them into bytes.
        series: What the rows of the pages mean.
        turn: Held while some bars are turned into text.
    """

    def __init__(
        self,
        pages: KlinePages,
        encoder: Encoder,
        series: Mapping[int, Series],
        turn: trio.Lock,
    ) -> None:
        self._pages = pages
        self._encoder = encoder
        self._series = series
        self._turn = turn
        self._has_begun = False
        self._is_over = False

    async def piece(self) -> bytes | None:
        """Return the next page as it is sent, None when there was the last one.

        Raises:
            ApiError: The page could not be read.
        """
        if self._is_over:
            return None
        page = await self._pages.next()
        head = b"" if self._has_begun else self._encoder.head()
        self._has_begun = True
        if page is None:
            self._is_over = True
            return head + self._encoder.tail()
        return head + await self._encoded(page)

    def leave_out(self) -> None:
        """Have no pieces, as nobody will see them."""
        self._is_over = True

    async def whole(self) -> bytes:
        """Return all pieces.

        Raises:
            ApiError: They could not all be read in time.
        """
        pieces = []
        with in_time():
            while (piece := await self.piece()) is not None:
                pieces.append(piece)
        return b"".join(pieces)

    async def _encoded(self, page: Page) -> bytes:
        series = self._series[page.row]
        if isinstance(self._encoder, JsonEncoder | CsvEncoder):
            parts = []
            for first in range(0, len(page.bars), BARS_PER_STEP):
                async with self._turn:
                    step = page.bars[first : first + BARS_PER_STEP]
                    parts.append(self._encoder.bars(series, step))
            return b"".join(parts)
        return await trio.to_thread.run_sync(self._encoder.bars, series, page.bars)


class _StreamedBody(ResponseBody):
    """What Quart sends of a document, one chunk per page.

    Args:
        document: All of it but its first piece.
        first: That piece; None if nothing is to be sent.
        streams: As many as may be under way at once.
    """

    def __init__(
        self, document: Document, first: bytes | None, streams: trio.CapacityLimiter
    ) -> None:
        self._document = document
        self._first = first
        self._streams = streams

    async def __aenter__(self) -> Self:
        # Not in the view: a client that leaves in between would keep the place for ever.
        with _broken_off(), in_time():
            await self._streams.acquire_on_behalf_of(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._streams.release_on_behalf_of(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None:
            with _broken_off():
                piece = await self._document.piece()
        if piece is None:
            raise StopAsyncIteration
        return piece


@contextmanager
def _broken_off() -> Iterator[None]:
    """Turn what can no longer be told by a status into the end of the transfer."""
    try:
        yield
    except ApiError as error:
        raise ReplyBrokenOff(error.message) from error


async def _make_encoder(name: str, series: Sequence[Series]) -> Encoder:
    if name == "arrow":  # its library is loaded at the first time
        return await trio.to_thread.run_sync(make_encoder, name, series)
    return make_encoder(name, series)
