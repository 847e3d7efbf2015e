"""Cycles of the chip on real matrices, compared with their bounds.

``python -m loopnest.benchmarks --matrices FOLDER`` runs them; the package `loopnest` does not need
it.
"""
