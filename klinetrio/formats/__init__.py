"""Klines as bytes: JSON, CSV and Arrow; pure, for the interfaces and the tools."""
