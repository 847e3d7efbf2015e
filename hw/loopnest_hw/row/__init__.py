"""A row of the nest: its fibers joined, its coordinates expanded into tokens for the next row."""
