"""Loopnest: the Python runtime of the sparse tensor chip."""

from loopnest_sim.memory import Memory

from .chip import Chip
from .epilogue import Epilogue
from .formats.pack import CompressedLevel
from .formats.tensor import Tensor
from .kernel.backends import ChipError
from .report.report import RunReport

__all__ = ["Chip", "ChipError", "CompressedLevel", "Epilogue", "Memory", "RunReport", "Tensor"]
