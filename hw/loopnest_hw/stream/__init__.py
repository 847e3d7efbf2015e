"""Reads from memory: gathers and scanners, and the line pool that they share."""
