"""Waves: file, cycles and format."""

import fcntl
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import IO, TypeAlias

from .memory import is_number

PathLike: TypeAlias = str | os.PathLike[str]
WavesLike: TypeAlias = PathLike | tuple[PathLike, int, int]
"""A file, or a file with the first and the last recorded cycle."""

LAST = (1 << 64) - 1
"""The last cycle if all cycles are recorded."""

LZ4 = Path(__file__).with_name("lz4") / "lz4.h"
"""Verilator's FST writer includes it; the library itself need not be installed."""

FST_LIBRARIES = "LDLIBS=$(VM_USER_LDLIBS) -lz"
"""Make variable: what a simulator with an FST writer is linked with, the LZ4 library left out."""


@dataclass(frozen=True)
class Waves:
    """A file of waves, and the cycles after the reset that it records: ``first`` to ``last``."""

    path: Path
    first: int = 0
    last: int = LAST

    @property
    def trace(self) -> str:
        """The format, which is the file's suffix too."""
        return self.path.suffix[1:]


def make_waves(waves: WavesLike) -> Waves:
    """Return the waves of an argument; the file gets the suffix of its format.

    Raises
    ------
    TypeError
        If it is neither a file nor a file and two integers.
    ValueError
        If the last cycle is before the first, or the first before 0.
    """
    expected = 'expected a file or ("file", first cycle, last cycle)'
    path, first, last = waves if isinstance(waves, tuple) and len(waves) == 3 else (waves, 0, LAST)
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"waves={waves!r}: {expected}")
    for limit in (first, last):
        if not is_number(limit, Integral):
            raise TypeError(f"waves={waves!r}: {expected}")
    if not 0 <= first <= last <= LAST:
        raise ValueError(f"waves={waves!r}: expected 0 <= first cycle <= last cycle")
    return Waves(Path(path).with_suffix(f".{trace_format()}"), int(first), int(last))


def claim(path: Path) -> IO[bytes]:
    """Open and lock the waves' file: no other simulation can record to it while it is open.

    Raises
    ------
    ValueError
        If another simulation records to it, in this process or in any other.
    OSError
        If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "ab")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(
            f"waves {path}: another simulation records to it: expected a file for each"
        ) from None
    return file


@cache
def trace_format() -> str:
    """Return the waves' format: FST where zlib's header is installed, VCD otherwise."""
    check = subprocess.run(
        ["g++", "-x", "c++", "-E", "-"],
        input="#include <zlib.h>\n",
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return "fst" if check.returncode == 0 else "vcd"
