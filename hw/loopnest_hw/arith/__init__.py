"""Arithmetic in the chip's number format. No unit outside this package depends on the format."""
