"""Hypothesis strategies for arrays and matrices."""

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st
from numpy.typing import NDArray

PATTERNS = ("random", "empty", "full row", "full column", "diagonal", "dense")


@st.composite
def shapes(draw: st.DrawFn, order: int, most: int = 40) -> tuple[int, ...]:
    """Shapes with sizes from 0 or 1 on, most of them not multiples of 16."""
    size = st.one_of(st.sampled_from([0, 1, 16, 17]), st.integers(1, most))
    return tuple(draw(size) for _ in range(order))


@st.composite
def arrays(
    draw: st.DrawFn, shape: tuple[int, ...], *, low: int = -9, high: int = 9
) -> NDArray[np.int64]:
    """Arrays of small integers with many zeros, in patterns with edge cases for the hardware."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    pattern = draw(st.sampled_from(PATTERNS))
    values = rng.integers(low, high + 1, shape)
    density = draw(st.sampled_from([0.02, 0.1, 0.4]))
    keep = np.asarray(rng.random(shape) < density)
    if pattern == "empty":
        keep[...] = False
    elif pattern == "dense":
        keep[...] = True
    elif pattern == "diagonal":
        grid = np.indices(shape)
        keep = np.logical_and.reduce([axis == grid[0] for axis in grid]) if len(shape) else keep
    elif len(shape) and shape[0] and pattern == "full row":
        keep[rng.integers(shape[0])] = True
    elif len(shape) and shape[-1] and pattern == "full column":
        keep[..., rng.integers(shape[-1])] = True
    return values * keep


def sparse(array: NDArray[np.int64]) -> sp.csr_array | sp.coo_array:
    """Return the array as scipy keeps it: CSR for a matrix, COO otherwise."""
    coo = sp.coo_array(array)
    return coo.tocsr() if array.ndim == 2 else coo


def dense(result: object) -> NDArray[np.float64]:
    """Return any result of the chip as a plain array."""
    if sp.issparse(result):
        return result.toarray().astype(np.float64)
    to_dense = getattr(result, "to_dense", None)
    return np.asarray(to_dense() if to_dense else result, np.float64)
