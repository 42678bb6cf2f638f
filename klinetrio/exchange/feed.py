"""All connections of the feed, each under its own supervisor."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.errors import ConfigError, NetworkError
from klinetrio.exchange.connection import FeedContext, Link, make_link, run_connection
from klinetrio.supervise import Supervision, supervise


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.symbol import Symbol

# Binance's limit on streams of one connection.
MAX_STREAMS = 1_024

# Handshakes longer than this were seen to be refused; at 30 characters a stream it allows about
# 260 streams.
_MAX_URL = 8_000


@attrs.frozen(slots=True)
class SupervisedLink:
    """A connection and what its supervisor knows of it."""

    link: Link
    supervision: Supervision


def plan_feed(
    ws_url: str, symbols: Sequence[Symbol], streams_per_connection: int
) -> list[SupervisedLink]:
    """Return the connections that carry all symbols.

    Raises:
        ConfigError: So many streams make a URL that the exchange refuses.
    """
    links = []
    for start in range(0, len(symbols), streams_per_connection):
        link = make_link(ws_url, symbols[start : start + streams_per_connection])
        if len(link.url) > _MAX_URL:
            key = "exchange.streams_per_connection"
            raise ConfigError(
                key, streams_per_connection, f"a URL of at most {_MAX_URL} characters"
            )
        links.append(SupervisedLink(link, Supervision(f"connection {link.name}")))
    return links


async def run_feed(links: Sequence[SupervisedLink], context: FeedContext) -> None:
    """Keep all connections up for ever.

    Raises:
        GaveUp: A connection kept failing by bugs of ours.

    Cancellation: drops all connections.
    """
    async with trio.open_nursery() as nursery:
        for each in links:
            attempt = partial(run_connection, each.link, context)
            nursery.start_soon(
                partial(supervise, attempt, state=each.supervision, again=(NetworkError,))
            )
