"""Statements: notation and semantics, and rewriting into statements that a kernel can compute."""
