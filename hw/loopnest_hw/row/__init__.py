"""A row of the nest: joins its fibers, and expands the coordinates into tokens for the next row."""
