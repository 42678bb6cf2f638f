"""SQL on a command line, for a person to copy."""

from __future__ import annotations

import shlex


# What a shell looks at between double quotes.
_SPECIAL = set('"$`\\!')


def command(*words: str, statement: str) -> str:
    """Return the line that runs a program on an SQL statement.

    The statement stands between double quotes if it can, as its own quotes are single ones.
    """
    quoted = shlex.quote(statement) if _SPECIAL & set(statement) else f'"{statement}"'
    return f"{shlex.join(words)} {quoted}"
