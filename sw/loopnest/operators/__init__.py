"""The operators of models, each with its meaning in NumPy."""

from . import arrangement, call, functions, indexing, normalisations, on_chip, quantized, reductions
from .table import OPERATORS, Operator

__all__ = [
    "OPERATORS",
    "Operator",
    "arrangement",
    "call",
    "functions",
    "indexing",
    "normalisations",
    "on_chip",
    "quantized",
    "reductions",
]
