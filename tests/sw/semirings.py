"""Products of matrices in each semiring, by NumPy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """A semiring: its product of two stored values, its sum of an array along an axis, its zero,
    and the term that leaves a sum as it is, if that is another value.
    """

    multiply: Callable[[NDArray, NDArray], NDArray]
    add: Callable[..., NDArray]
    zero: float = 0.0
    neutral: float | None = None


CASES = {
    "plus_times": Case(np.multiply, np.sum),
    "min_plus": Case(np.add, np.min, np.inf),
    "max_times": Case(np.multiply, np.max, -np.inf),
    "max_times_0": Case(np.multiply, np.max, neutral=-np.inf),
    "or_and": Case(lambda a, b: ((a != 0) & (b != 0)) * 1.0, np.max),
    "plus_first": Case(lambda a, b: a + 0 * b, np.sum),
    "plus_second": Case(lambda a, b: 0 * a + b, np.sum),
    "plus_pair": Case(lambda a, b: 1 + 0 * a + 0 * b, np.sum),
}


def random_matrix(
    rng: np.random.Generator, shape: tuple[int, int], density: float = 0.2
) -> sp.csr_array:
    """Return a matrix of small integers, stored zeros among them."""
    matrix = sp.random_array(shape, density=density, rng=rng, format="csr")
    matrix.data = rng.integers(-9, 10, matrix.nnz).astype(float)
    return matrix


def stored(array: sp.sparray | NDArray) -> tuple[NDArray, NDArray]:
    """Return a matrix's values and where it has entries; a dense one has them everywhere."""
    if isinstance(array, np.ndarray):
        return array.astype(float), np.ones(array.shape, bool)
    coo = array.tocoo()
    has = np.zeros(array.shape, bool)
    has[coo.coords] = True
    values = np.zeros(array.shape)
    values[coo.coords] = coo.data
    return values, has


def product(name: str, a: sp.sparray | NDArray, b: sp.sparray | NDArray) -> tuple[NDArray, NDArray]:
    """Return the product of two matrices, with the semiring's zero where there is no term, and
    where there is one.
    """
    case = CASES[name]
    (x, has_x), (y, has_y) = stored(a), stored(b)
    both = has_x[:, :, None] & has_y[None]
    neutral = case.zero if case.neutral is None else case.neutral
    terms = np.where(both, case.multiply(x[:, :, None], y[None]), neutral)
    has = both.any(axis=1)
    return np.where(has, case.add(terms, axis=1), case.zero), has


def clipped(values: NDArray, dtype: str) -> NDArray:
    """Return values in the chip's format: an int8 chip's infinities are the limits of int32."""
    limits = np.iinfo(np.int32)
    return np.clip(values, limits.min, limits.max) if dtype == "int8" else values
