"""How many connections a process has descriptors for."""

from __future__ import annotations

import logging
import sys


if sys.platform != "win32":
    import resource

# 1,000 push clients and as many again for REST.  At about 57 KiB each (measured: an open WebSocket
# that follows one series) they cost 114 MiB.
MAX_CONNECTIONS = 2_048

# The other half is for the exchange, one connection per symbol and one more while it is replaced,
# for the database and for files.
SHARE = 2

_log = logging.getLogger("klinetrio.httpd")


def room_for_connections() -> int:
    """Return how many connections may be open at once: half of the descriptors of this process.

    Descriptors are raised first, as far as it may: from 1,024, as on an untuned Linux, to what its
    hard limit allows.  If that is too little for ``MAX_CONNECTIONS``, the log says so.
    """
    if sys.platform == "win32":
        return MAX_CONNECTIONS  # there sockets are no descriptors
    wanted = MAX_CONNECTIONS * SHARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_CONNECTIONS
    _log.warning(
        "few descriptors: limit=%d connections=%d wanted=%d (raise it by ulimit -n)",
        *(soft, soft // SHARE, MAX_CONNECTIONS),
    )
    return soft // SHARE
