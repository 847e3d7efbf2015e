"""The command ``info``: what a file's tensor takes on the chip, and what a chip would refuse of it;
and what a saved program holds.
"""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from rich.console import Console
from rich.table import Table

from loopnest_hw.config import NumberFormat

from ..expression.operand import Operand
from ..formats import numbers
from ..formats.files import read_tensor
from ..formats.tensor import Tensor
from .files import FORMATS
from .programs import describe, is_program


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command and its arguments to the parser."""
    info = add("info", _info, "tell what files of tensors and of programs hold and take")
    info.add_argument("files", nargs="+", metavar="file")
    info.add_argument("--dtype", choices=FORMATS, default="bf16", help="for the bytes (bf16)")


@dataclass(frozen=True)
class Info:
    """A file's tensor.

    Parameters
    ----------
    nonzeros : int
        Entries that are stored, or not 0; repeated ones count once.
    index_bytes, value_bytes : int, optional
        What it takes with the usual levels of a sparse tensor; None if its shape is refused.
    refused : dict of NumberFormat to str
        Why `Chip.compute` refuses it as an operand, for each number format that does.
    warned : dict of NumberFormat to str
        What `Chip.compute` warns of.
    """

    file: str
    shape: tuple[int, ...]
    nonzeros: int
    index_bytes: int | None
    value_bytes: int | None
    refused: dict[NumberFormat, str]
    warned: dict[NumberFormat, str]

    def row(self) -> list[str]:
        """Return the fields of `COLUMNS`."""
        index, values = self.index_bytes, self.value_bytes
        return [
            self.file,
            " x ".join(map(str, self.shape)) or "a number",
            f"{self.nonzeros:,}",
            f"{self.nonzeros / max(1, prod(self.shape)):.4%}",
            "-" if index is None else f"{index / max(1, self.nonzeros):.2f}",
            "-" if index is None or values is None else f"{index + values:,}",
        ]

    def notes(self) -> list[str]:
        """Return a line for each thing that chips refuse or warn of."""
        formats: dict[str, list[str]] = {}
        for dtype, why in self.refused.items():
            formats.setdefault(why, []).append(dtype.value)
        return [
            *(f"{self.file}: refused as {' and '.join(of)}: {why}" for why, of in formats.items()),
            *(f"{self.file}: as {of.value}: {what}" for of, what in self.warned.items()),
        ]


COLUMNS = ("file", "shape", "nonzeros", "density", "index bytes a nonzero", "bytes")


def file_info(file: str | Path, dtype: str | NumberFormat) -> Info:
    """Return what there is to tell of a file; its bytes are those in the number format ``dtype``.

    Raises
    ------
    ValueError, OSError
        For a file that can't be read (`read_tensor`).
    """
    source = read_tensor(file)
    refused: dict[NumberFormat, str] = {}
    warned: dict[NumberFormat, str] = {}
    for number in NumberFormat:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                _use(source, number)
            except (TypeError, ValueError) as error:
                refused[number] = str(error).removeprefix(f"{NAME}: ")
        for warning in caught:
            warned[number] = str(warning.message).removeprefix(f"{NAME}: ")
    nonzeros = int(source.nnz if sp.issparse(source) else np.count_nonzero(source))
    index = values = None
    try:
        pattern = _pattern(source)
    except ValueError:  # of its shape, which is among the refusals
        pass
    else:
        nonzeros = pattern.nnz if source.ndim else nonzeros
        index = sum(a.table.nbytes + a.words.nbytes for a in pattern.arrays if a is not None)
        kind = numbers.storage_dtype(numbers.number_format(dtype), wide=False)
        values = pattern.values.size * kind.itemsize
    return Info(str(file), source.shape, nonzeros, index, values, refused, warned)


NAME = "operand"


def _use(source: Any, dtype: NumberFormat) -> None:
    """Do with an array what a chip does with an operand."""
    operand = Operand(NAME, source, dtype)
    operand.warn_beyond()
    make = Tensor.from_scipy if sp.issparse(source) else Tensor.from_dense
    numbers.without_warnings(lambda: make(source, dtype=dtype))


def _pattern(source: Any) -> Tensor:
    """Return a tensor with a value for each entry that an array stores, or that is not 0."""
    if sp.issparse(source):
        coordinates = list(source.tocoo().coords)
        count = source.nnz
    else:
        coordinates = list(np.argwhere(source).T)
        count = int(np.count_nonzero(source))
    return Tensor.from_coo(coordinates, np.ones(count), source.shape, dtype=NumberFormat.BF16)


def _info(options: argparse.Namespace, console: Console) -> int:
    saved = [file for file in options.files if is_program(file)]
    for file in saved:
        print(describe(file))
    found = [file_info(file, options.dtype) for file in options.files if file not in saved]
    if not found:
        return 0
    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "file" else "right")
    for info in found:
        table.add_row(*info.row())
    Console().print(table)
    for info in found:
        print(*info.notes(), sep="\n", end="\n" * bool(info.notes()))
    for info in found:
        if len(info.refused) == len(NumberFormat):
            raise ValueError(f"{info.file}: {next(iter(info.refused.values()))}")
    return 0
