"""Benches of the read streams."""
