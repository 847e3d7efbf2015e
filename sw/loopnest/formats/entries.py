"""Entries of a tensor in the order of its levels, each once."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from . import numbers

Columns = tuple[NDArray[np.int64], ...]
"""Coordinates, an array for each level or index."""


def codes(columns: Sequence[NDArray[np.int64]], sizes: Sequence[int]) -> NDArray[np.int64] | None:
    """Return numbers in the order of tuples of coordinates, the first column most significant;
    None if 64 bits are too few, or there are no columns.
    """
    if not columns or prod(sizes) >= 1 << 62:
        return None
    found = columns[0].astype(np.int64, copy=False)
    for column, size in zip(columns[1:], sizes[1:], strict=True):
        found = found * size + column
    return found


def order_of(
    columns: Sequence[NDArray[np.int64]], sizes: Sequence[int]
) -> NDArray[np.int64] | None:
    """Return the order of tuples of coordinates, equal ones as they are; None if they are in it."""
    if not columns:
        return None
    code = codes(columns, sizes)
    if code is None:
        return np.lexsort(columns[::-1])
    return None if (code[1:] >= code[:-1]).all() else np.argsort(code, kind="stable")


def sorted_unique(
    columns: Sequence[NDArray[np.int64]], values: NDArray, sizes: Sequence[int]
) -> tuple[list[NDArray[np.int64]], NDArray]:
    """Sort entries by their coordinates, the first column most significant; sum repeated ones."""
    ordered, at = list(columns), order_of(columns, sizes)
    if at is not None:
        ordered, values = [column[at] for column in columns], values[at]
    same = np.ones(max(len(values) - 1, 0), bool)
    for column in ordered:
        same &= column[1:] == column[:-1]
    if not same.any():
        return ordered, values
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    columns = [column[starts] for column in ordered]
    return columns, numbers.sum_runs(values, starts)
