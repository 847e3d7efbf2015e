"""The loop nest of a statement: its order, levels, rows, cells and streams."""
