"""Tensors of order 3, drawn at random, and how a CPU stores them."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..matrices import nonzeros


@dataclass(frozen=True)
class Shape:
    """What is drawn: the sizes, the places that are drawn (some may be equal), and how uneven they
    are: with an exponent above 1, more of them are at small coordinates.
    """

    sizes: tuple[int, int, int]
    entries: int
    exponent: float = 1.0


TENSORS = {
    "short-fibers": Shape((2_000, 1_500, 1_000), 30_000),
    "long-fibers": Shape((120, 100, 80), 40_000),
    "skewed": Shape((1_000, 800, 600), 50_000, 3.0),
}
"""The tensors by name."""


def draw_tensor(name: str, seed: int) -> sp.coo_array:
    """Return a tensor, in the order of its coordinates; each of them and each seed has its own."""
    shape = TENSORS[name]
    rng = np.random.default_rng((seed, list(TENSORS).index(name)))
    drawn = [
        (size * rng.random(shape.entries) ** shape.exponent).astype(np.int64)
        for size in shape.sizes
    ]
    places = np.unique(np.ravel_multi_index(tuple(drawn), shape.sizes))
    at = np.unravel_index(places, shape.sizes)
    return sp.coo_array((nonzeros((len(places),), rng), at), shape.sizes)


@dataclass(frozen=True)
class Fibers:
    """A tensor as compressed fibers of its last index, which are grouped by the first.

    Attributes
    ----------
    rows : array of int
        Position of each first coordinate's fibers, and their number.
    middle : array of int
        The second coordinate of each fiber.
    entries : csr_array
        The fibers as rows of a matrix.
    sums : csr_array
        A matrix of ones that adds the fibers of each first coordinate.
    """

    rows: NDArray[np.int32]
    middle: NDArray[np.int32]
    entries: sp.csr_array
    sums: sp.csr_array

    def scattered(self, values: NDArray, columns: int) -> sp.csr_array:
        """Return the matrix with a value for each fiber, at its first and second coordinate."""
        return sp.csr_array((values, self.middle, self.rows), (len(self.rows) - 1, columns))


def fibers_of(tensor: sp.coo_array) -> Fibers:
    """Return the fibers of a tensor whose entries are in order, in single precision."""
    first, middle, last = (at.astype(np.int32) for at in tensor.coords)
    begins = np.flatnonzero(
        np.concatenate([[True], (np.diff(first) != 0) | (np.diff(middle) != 0)])
    )
    ends = np.append(begins, len(first)).astype(np.int32)
    rows = np.searchsorted(first[begins], np.arange(tensor.shape[0] + 1)).astype(np.int32)
    ones = np.ones(len(begins), np.float32)
    fibers = np.arange(len(begins), dtype=np.int32)
    return Fibers(
        rows,
        middle[begins],
        sp.csr_array((tensor.data.astype(np.float32), last, ends), (len(begins), tensor.shape[2])),
        sp.csr_array((ones, fibers, rows), (tensor.shape[0], len(begins))),
    )
