"""The loop nest of a statement: its rows, its cells, the lane and the result."""
