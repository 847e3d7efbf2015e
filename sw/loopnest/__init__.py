"""Loopnest: the Python runtime of the sparse tensor chip."""

from .pack import CompressedLevel
from .tensor import Tensor

__all__ = ["CompressedLevel", "Tensor"]
