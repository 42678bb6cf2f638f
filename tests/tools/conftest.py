"""What tests of the tools share."""

from __future__ import annotations

from tests.storage.conftest import backend


__all__ = ["backend"]
