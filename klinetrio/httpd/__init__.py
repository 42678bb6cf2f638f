"""Hypercorn, made fit for a long-lived daemon.

Hypercorn's protocol machines are kept (HTTP/1.1 by h11, WebSocket by wsproto, the ASGI lifespan);
its accept loop, its connection and its hand-over to the app are replaced here, as these hold the
faults that a daemon cannot live with.  All were reproduced with Hypercorn 0.18; each has a test in
``tests/api/test_httpd.py``:

  A  Hypercorn announces the end of a request while the app is still inside ``send``; Quart-Trio
     cancels itself on that news and takes the closing of the connection with it: connections that
     ought to close, never do.  Cure: news of the end waits until ``send`` is over.
  B  One malformed request can end the server (Hypercorn issue 225).  Cure: whatever a connection
     raises ends that connection only.
  C  A reader that stalls blocks a shielded send for ever, and with it the shutdown.  Cure: sends
     have a deadline, and a cancelled server closes its sockets under them.
  D  A peer that vanished without a word is never noticed while nothing is sent.  Cure: a WebSocket
     peer has to answer pings; beside that TCP_USER_TIMEOUT, where there is one.
  E  An open WebSocket costs the whole grace at shutdown, as its ping task sleeps on.  Cure: pings
     end with the app.  (The app has to close its WebSockets itself when told to.)
  F  A client that sends more than the app reads keeps the tasks of its connection for ever, as
     the news of its end queues behind its messages.  Cure: that news never queues.
  G  After an overlong message (close code 1009) or a refused upgrade the connection stays open
     and its buffer grows.  Cure: what was refused is closed, after a short linger.
  H  A client that sends its next request before the reply and then vanishes is never let go: the
     reader waits for the reply to be sent.  Cure: a failed send ends the reader too.

Beside it, ``frames.py`` sends the ready frames of established WebSockets past Hypercorn.

Left out on purpose: HTTP/2 (without TLS only proxies could speak it, and they need not) and
permessage-deflate (10 us per message sent, and 64 KiB received may inflate to 64 MiB).
"""

from klinetrio.httpd.faults import FaultLog, ReplyBrokenOff
from klinetrio.httpd.frames import FRAME_EXTENSION, FramePort, text_frame
from klinetrio.httpd.listener import open_listener
from klinetrio.httpd.room import MAX_CONNECTIONS, room_for_connections
from klinetrio.httpd.server import GRACE_S, serve_http


__all__ = [
    "FRAME_EXTENSION",
    "GRACE_S",
    "MAX_CONNECTIONS",
    "FaultLog",
    "FramePort",
    "ReplyBrokenOff",
    "open_listener",
    "room_for_connections",
    "serve_http",
    "text_frame",
]
