"""Which format an answer has: as ``format`` says, else as ``Accept`` wants it, else JSON."""

from __future__ import annotations

from werkzeug.datastructures import MIMEAccept

from klinetrio.api.problems import ApiError
from klinetrio.formats.encoder import INSTALL_ARROW, MEDIA_TYPES, has_arrow


# The first is what those get who accept anything.
_BY_MEDIA_TYPE = {media_type: name for name, media_type in MEDIA_TYPES.items()}

_NO_ARROW = f"arrow needs pyarrow where the daemon runs: {INSTALL_ARROW}"


def choose_format(named: str | None, accept: MIMEAccept) -> str:
    """Return the name of a format that can be made.

    Args:
        named: By the query, one of ``MEDIA_TYPES``; goes before the header.
        accept: The ``Accept`` header, with its qualities; not provided is anything.

    Raises:
        ApiError: None of those accepted can be made, or the library is missing.
    """
    if named is not None:
        if named == "arrow" and not has_arrow():
            raise ApiError(501, "format_unavailable", _NO_ARROW)
        return named
    if not accept.provided:
        return "json"
    # What stands behind a type, as a charset, asks for nothing that could be refused.
    accept = MIMEAccept([(each.partition(";")[0].strip(), quality) for each, quality in accept])
    possible = [
        media_type for media_type, name in _BY_MEDIA_TYPE.items() if name != "arrow" or has_arrow()
    ]
    best = accept.best_match(possible)
    if best is None:
        message = f"Accept: expected one of {', '.join(possible)}, was another"
        wants_arrow = accept.quality(MEDIA_TYPES["arrow"]) > 0 and not has_arrow()
        raise ApiError(406, "not_acceptable", _NO_ARROW if wants_arrow else message)
    return _BY_MEDIA_TYPE[best]
