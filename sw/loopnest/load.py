"""Loads saved programs."""

from pathlib import Path

from .chip import Chip
from .program.loaded import SavedProgram


def load(path: str | Path, *, chip: Chip) -> SavedProgram:
    """Read a program that `Program.save` has written, to run on a chip. Nothing is planned.

    Parameters
    ----------
    path : path
    chip : Chip
        Of the configuration that the program was compiled for.

    Raises
    ------
    ValueError
        If it is no program, truncated or damaged, of another version, or for another chip; the
        message names the cause.
    OSError
        If the file cannot be read.
    """
    if not isinstance(chip, Chip):
        raise TypeError(f"chip={chip!r}: expected a Chip")
    return SavedProgram(chip.device, path)
