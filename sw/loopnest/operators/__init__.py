"""The operators of models, each with its meaning in NumPy."""

from . import on_chip, on_host, quantized
from .table import OPERATORS, Operator

__all__ = ["OPERATORS", "Operator", "on_chip", "on_host", "quantized"]
