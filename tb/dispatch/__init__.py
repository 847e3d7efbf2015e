"""Benches of the dispatcher."""
