"""Statements: what they mean, and their rewriting into ones that a kernel can compute."""
