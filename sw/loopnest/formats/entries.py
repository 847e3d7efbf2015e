"""Entries of a tensor in the order of its levels, each once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import numbers


def sorted_unique(
    columns: Sequence[NDArray[np.int64]], values: NDArray, sizes: Sequence[int]
) -> tuple[list[NDArray[np.int64]], NDArray]:
    """Sort entries by their coordinates, the first column most significant; sum repeated ones."""
    key = np.zeros(len(values), np.int64)
    if np.prod([float(n) for n in sizes]) < 2.0**62:
        for column, size in zip(columns, sizes, strict=True):
            key = key * size + column
        ascending = key[1:] >= key[:-1]
        at = slice(None) if ascending.all() else np.argsort(key, kind="stable")
        same = key[at][1:] == key[at][:-1]
    else:
        at = np.lexsort(columns[::-1])
        same = np.ones(max(len(values) - 1, 0), bool)
        for column in columns:
            same &= column[at][1:] == column[at][:-1]
    ordered = [column[at] for column in columns]
    values = values[at]
    if not same.any():
        return ordered, values
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    columns = [column[starts] for column in ordered]
    return columns, numbers.sum_runs(values, starts)
