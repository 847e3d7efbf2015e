"""Benches of the accumulator."""
