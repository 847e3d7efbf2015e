"""Arithmetic of the chip's number format. Nothing outside this package knows which one it is."""
