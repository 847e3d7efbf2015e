"""Benches of the units around the PE, and of the whole chip."""
