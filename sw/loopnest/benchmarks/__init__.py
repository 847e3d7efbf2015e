"""Cycles of the chip on real matrices, beside the bounds it has to keep.

``python -m loopnest.benchmarks --matrices FOLDER`` runs them; the package `loopnest` does not need
it.
"""
