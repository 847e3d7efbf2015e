"""Loopnest: the Python runtime of the sparse tensor chip."""

import loopnest_command.imports  # noqa: F401

# isort: split
from importlib.metadata import PackageNotFoundError, version

from loopnest_sim.memory import Memory

from .chip import Chip
from .compile import compile
from .default import set_default_chip, use_chip
from .epilogue import Epilogue
from .formats.pack import CompressedLevel
from .formats.tensor import Tensor
from .kernel.backends import ChipError
from .load import load
from .program.loaded import SavedProgram
from .program.program import Assignment, Program
from .report.report import RunReport

try:
    __version__ = version("loopnest")
except PackageNotFoundError:  # the sources without an installation
    __version__ = "unknown"

__all__ = [
    "Assignment",
    "Chip",
    "ChipError",
    "CompressedLevel",
    "Epilogue",
    "Memory",
    "Program",
    "RunReport",
    "SavedProgram",
    "Tensor",
    "compile",
    "load",
    "set_default_chip",
    "use_chip",
]
