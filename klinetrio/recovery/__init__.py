"""What was not seen live: the past of a symbol that has just started, and holes in its ids."""
