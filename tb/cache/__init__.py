"""Benches of the cache."""
