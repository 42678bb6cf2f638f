"""REST as Binance's USD-M futures have it, under ``/fapi/v1``: for programs that were made for it."""

from klinetrio.api.fapi.errors import is_fapi, refusal
from klinetrio.api.fapi.routes import add_fapi_routes


__all__ = ["add_fapi_routes", "is_fapi", "refusal"]
