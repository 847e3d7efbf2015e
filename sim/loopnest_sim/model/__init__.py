"""The golden model: one function for each unit, and the whole kernel, in NumPy."""
