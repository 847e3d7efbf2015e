"""Benches of what surrounds the PE."""
