"""Benches of the rows."""
