"""What all tests share."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import psycopg_pool.base
import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import new_schema, open_server_url


if TYPE_CHECKING:
    from collections.abc import Iterator


# Machines are shared: a slow example says nothing of the code.  A failing example is printed
# with its seed and can be replayed.
settings.register_profile(
    "klinetrio",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("klinetrio")


@pytest.fixture(scope="session", autouse=True)
def dice_of_the_pool() -> Iterator[None]:
    """Give psycopg's pool dice of its own.

    It throws them in threads of its own, at any moment, and hypothesis takes it for a test's fault if
    somebody throws the common ones while an example is drawn.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg_pool.base, "random", Random().random)  # noqa: S311  (jitter, not secrets)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the URL of a PostgreSQL server of the tests' own."""
    with open_server_url() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Return the URL of an empty schema, which is as good as a database and made much faster."""
    with new_schema(postgres_server) as url:
        yield url
