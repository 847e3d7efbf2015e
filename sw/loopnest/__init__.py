"""Loopnest: the Python runtime of the sparse tensor chip."""

from loopnest_sim.memory import Memory

from .backends import ChipError
from .chip import Chip
from .epilogue import Epilogue
from .pack import CompressedLevel
from .report import RunReport
from .tensor import Tensor

__all__ = ["Chip", "ChipError", "CompressedLevel", "Epilogue", "Memory", "RunReport", "Tensor"]
