"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


# Machines are shared: a slow example says nothing of the code.  A failing example is printed
# with its seed and can be replayed.
settings.register_profile(
    "klinetrio",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("klinetrio")
