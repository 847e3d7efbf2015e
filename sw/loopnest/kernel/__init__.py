"""Kernels: lowering a planned nest to a descriptor, running it, and reading its result and
report.
"""
