"""From trades to bars: registry, fold, books, actors, the double buffer and its swapper."""
