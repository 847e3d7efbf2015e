"""Reads from memory: gathers and scanners, and the line pool they share."""
