"""Tensors as they are handed in, stored, packed and written to files."""
