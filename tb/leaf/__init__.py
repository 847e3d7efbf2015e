"""Benches of the leaf."""
