"""What the path of a stream connection asks for.

    /ws  /ws/<stream>/<stream>...  /stream?streams=<stream>/<stream>...

each also under ``/market``, ``/public`` and ``/private``.  The exchange routes klines and trades to
``/market`` alone; here they come on every path but ``/private``, as older programs expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import attrs


if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIXES = ("", "/market", "/public", "/private")


@attrs.frozen
class Target:
    """What a connection asks for from the start.

    Attributes:
        is_idle: Everything is acknowledged, and nothing comes.
        enveloped: Whether events name their stream, until the client says otherwise.
        streams: Names of streams, as they were written.
    """

    is_idle: bool
    enveloped: bool
    streams: tuple[str, ...]


def target_of(path: str, query: bytes) -> Target:
    """Return what a path that was routed here, and its query string, ask for."""
    prefix = next(each for each in reversed(PREFIXES) if path.startswith(f"{each}/"))
    is_idle = prefix == "/private"
    endpoint, _, names = path.removeprefix(f"{prefix}/").partition("/")
    if endpoint == "ws":
        return Target(is_idle, enveloped=False, streams=tuple(_split(names)))
    given = parse_qs(query.decode("utf-8", "replace")).get("streams", [])
    return Target(is_idle, enveloped=True, streams=tuple(_split("/".join(given))))


def _split(names: str) -> Iterator[str]:
    return (name for name in names.split("/") if name)
