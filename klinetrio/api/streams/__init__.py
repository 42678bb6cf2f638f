"""The exchange's own WebSocket streams: programs written for it follow klinetrio instead."""
