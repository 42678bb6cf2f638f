"""klinetrio: an exchange's trade stream in, exact candlesticks out."""

__version__ = "0.1.0"
