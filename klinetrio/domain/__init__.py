"""What a market is made of: intervals, exact numbers, symbols, trades, klines.

Pure values and functions; everything else may import this package, it imports nothing but errors.
"""
