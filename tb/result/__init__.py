"""Benches of the result path."""
