"""The kernels as plain loops, which numba compiles. Each writes its result into its last arguments.

Without numba they are Python: slow, with the same results.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

try:
    from numba import prange
except ModuleNotFoundError:

    def prange(*bounds: int) -> Iterable[int]:
        """Return the range: one thread."""
        return range(*bounds)


Array = np.ndarray[Any, Any]


def spmv(positions: Array, columns: Array, values: Array, x: Array, y: Array) -> None:
    """Multiply a matrix by a vector."""
    for i in prange(len(y)):
        found = np.float32(0)
        for p in range(positions[i], positions[i + 1]):
            found += values[p] * x[columns[p]]
        y[i] = found


def spmm(positions: Array, columns: Array, values: Array, X: Array, Y: Array) -> None:
    """Multiply a matrix by a dense one."""
    for i in prange(len(Y)):
        for c in range(X.shape[1]):
            Y[i, c] = 0
        for p in range(positions[i], positions[i + 1]):
            value, k = values[p], columns[p]
            for c in range(X.shape[1]):
                Y[i, c] += value * X[k, c]


def spgemm(
    a_positions: Array,
    a_columns: Array,
    a_values: Array,
    b_positions: Array,
    b_columns: Array,
    b_values: Array,
    width: int,
    pieces: Array,
    begins: Array,
    ends: Array,
    columns: Array,
    values: Array,
) -> None:
    """Multiply two matrices by Gustavson's algorithm, with a dense row as the accumulator.

    Parameters
    ----------
    width : int
        Columns of the second matrix.
    pieces : array of int
        Bounds of the rows that a thread takes at a time.
    begins, ends : array of int
        Where each row of the result begins, which is given, and ends. A row's columns are in no
        order, and there may be a gap after it.
    """
    for piece in prange(len(pieces) - 1):
        row = np.zeros(width, np.float32)
        latest = np.full(width, -1, np.int32)
        for i in range(pieces[piece], pieces[piece + 1]):
            end = begins[i]
            for p in range(a_positions[i], a_positions[i + 1]):
                value, k = a_values[p], a_columns[p]
                for q in range(b_positions[k], b_positions[k + 1]):
                    j = b_columns[q]
                    if latest[j] == i:
                        row[j] += value * b_values[q]
                    else:
                        latest[j] = i
                        row[j] = value * b_values[q]
                        columns[end] = j
                        end += 1
            for p in range(begins[i], end):
                values[p] = row[columns[p]]
            ends[i] = end


def add(
    a_positions: Array,
    a_columns: Array,
    a_values: Array,
    b_positions: Array,
    b_columns: Array,
    b_values: Array,
    ends: Array,
    columns: Array,
    values: Array,
) -> None:
    """Add two matrices whose columns are in order, by merging their rows.

    Each row of the result has space for the entries of both; there may be a gap after it.
    """
    for i in prange(len(ends)):
        p, q = a_positions[i], b_positions[i]
        a_end, b_end = a_positions[i + 1], b_positions[i + 1]
        end = p + q
        while p < a_end and q < b_end:
            a, b = a_columns[p], b_columns[q]
            columns[end] = min(a, b)
            if a == b:
                values[end] = a_values[p] + b_values[q]
                p += 1
                q += 1
            elif a < b:
                values[end] = a_values[p]
                p += 1
            else:
                values[end] = b_values[q]
                q += 1
            end += 1
        while p < a_end:
            columns[end], values[end] = a_columns[p], a_values[p]
            p += 1
            end += 1
        while q < b_end:
            columns[end], values[end] = b_columns[q], b_values[q]
            q += 1
            end += 1
        ends[i] = end


def sddmm(
    positions: Array, columns: Array, values: Array, C: Array, D: Array, found: Array
) -> None:
    """Multiply each entry of a matrix by the inner product of its rows of C and D."""
    for i in prange(len(positions) - 1):
        for p in range(positions[i], positions[i + 1]):
            j = columns[p]
            inner = np.float32(0)
            for k in range(C.shape[1]):
                inner += C[i, k] * D[j, k]
            found[p] = values[p] * inner


def mttkrp(
    rows: Array,
    middle: Array,
    positions: Array,
    last: Array,
    values: Array,
    B: Array,
    C: Array,
    M: Array,
) -> None:
    """Multiply a tensor by two factors (`tensors.Fibers`), fiber by fiber."""
    rank = M.shape[1]
    for i in prange(len(M)):
        fiber = np.empty(rank, np.float32)
        for r in range(rank):
            M[i, r] = 0
        for f in range(rows[i], rows[i + 1]):
            for r in range(rank):
                fiber[r] = 0
            for p in range(positions[f], positions[f + 1]):
                value, k = values[p], last[p]
                for r in range(rank):
                    fiber[r] += value * C[k, r]
            j = middle[f]
            for r in range(rank):
                M[i, r] += fiber[r] * B[j, r]
