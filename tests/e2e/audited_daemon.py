"""The daemon, telling on stderr every address it connects to and every name it looks up."""

from __future__ import annotations

import sys
from typing import Any

from klinetrio.cli import main


def tell(event: str, arguments: tuple[Any, ...]) -> None:
    """Print what leaves the process."""
    if event == "socket.connect":
        print(f"audit connect {arguments[1]}", file=sys.stderr)
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        print(f"audit lookup {arguments[0]}", file=sys.stderr)


if __name__ == "__main__":
    sys.addaudithook(tell)
    main()
