"""The chip's clock, for a time in seconds: cycles are what is measured."""

PERIOD_NS = 1.97
"""The clock period of the PE (`single`, bf16) that ``make timing`` finds with Nangate's 45 nm
library (docs/results.md): not placed."""
