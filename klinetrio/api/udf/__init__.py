"""TradingView's Universal Data Feed (UDF): what its charting front ends, and others, can plug in to.

Three things differ from v1, as front ends expect it: prices and volumes are JSON numbers, parameters
that are not known are left alone, and an error is ``{"s": "error", "errmsg": ...}``.
"""
