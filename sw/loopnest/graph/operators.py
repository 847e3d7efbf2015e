"""All operators of graphs."""

from . import on_chip, on_host
from .table import OPERATORS, Operator

__all__ = ["OPERATORS", "Operator", "on_chip", "on_host"]
