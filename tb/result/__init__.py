"""Benches of the result's way out."""
