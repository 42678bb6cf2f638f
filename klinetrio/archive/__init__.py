"""Binance's public archive files, from bytes on disk to exact bars; nothing here writes."""
