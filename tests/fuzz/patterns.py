"""Random tensors in the shapes, patterns and formats that users have, and in unusual ones."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Given

Pattern = NDArray[np.bool_]

SIZES = (0, 1, 1, 2, 3, 15, 16, 17, 31, 33)
"""Sizes at and next to the edges of a block."""

DENSITIES = (0.02, 0.1, 0.3, 0.7)

LEVELS = ("dense", "compressed")


def random_size(rng: np.random.Generator, most: int) -> int:
    """Return an index's size up to ``most``: random, or one at an edge; 0 is rare."""
    size = int(rng.choice(SIZES) if rng.random() < 0.4 else rng.integers(1, most + 1))
    if size == 0 and rng.random() < 0.7:
        size = 1
    return min(size, most)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Pattern:
    return rng.random(shape) < rng.choice(DENSITIES)


def _power_law(rng: np.random.Generator, shape: tuple[int, ...]) -> Pattern:
    """Coordinates near 0 are much more frequent in every mode."""
    odds = np.ones(shape)
    for axis, size in enumerate(shape):
        shares = (1.0 + rng.permutation(size)) ** -rng.uniform(0.5, 1.5)
        odds *= shares.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return rng.random(shape) < odds


def _banded(rng: np.random.Generator, shape: tuple[int, ...]) -> Pattern:
    if len(shape) < 2:
        return _uniform(rng, shape)
    places = np.indices(shape)
    width = int(rng.integers(0, 4))
    return np.asarray(np.abs(places[-1] - places[-2]) <= width)


def _blocks(rng: np.random.Generator, shape: tuple[int, ...]) -> Pattern:
    """Boxes of ones."""
    found = np.zeros(shape, np.bool_)
    for _ in range(int(rng.integers(1, 4))):
        box = []
        for size in shape:
            begin = int(rng.integers(0, size + 1))
            box.append(slice(begin, begin + int(rng.integers(1, 20))))
        found[tuple(box)] = True
    return found


def _full_fiber(rng: np.random.Generator, shape: tuple[int, ...]) -> Pattern:
    """One full row or column of any mode, and little else."""
    found = np.asarray(rng.random(shape) < 0.03)
    if shape and min(shape):
        axis = int(rng.integers(len(shape)))
        at: list[Any] = [int(rng.integers(size)) for size in shape]
        at[axis] = slice(None)
        found[tuple(at)] = True
    return found


def _empty(rng: np.random.Generator, shape: tuple[int, ...]) -> Pattern:
    return np.zeros(shape, np.bool_)


def _all(rng: np.random.Generator, shape: tuple[int, ...]) -> Pattern:
    return np.ones(shape, np.bool_)


PATTERNS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Pattern]] = {
    "uniform": _uniform,
    "power law": _power_law,
    "banded": _banded,
    "blocks": _blocks,
    "one full fiber": _full_fiber,
    "empty": _empty,
    "all": _all,
}


def random_array(rng: np.random.Generator, shape: tuple[int, ...], exact: bool) -> NDArray[Any]:
    """Return an array with zeros: small integers if ``exact``, or numbers of any magnitude."""
    pattern = PATTERNS[str(rng.choice(list(PATTERNS)))](rng, shape)
    if exact:
        values = rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], shape)
    else:
        values = rng.normal(size=shape) * 2.0 ** rng.integers(-6, 7, shape)
    return np.asarray(values * pattern)


def random_format(
    rng: np.random.Generator, array: NDArray[Any], *, dense: Collection[int] = ()
) -> Given:
    """Return the array in one of the types that `Chip.compute` takes; not a sparse one if all of
    its modes have to be ``dense``.
    """
    rank = array.ndim
    kind = str(rng.choice(["array", "scipy", "scipy", "tensor", "tensor"]))
    if rank == len(dense) > 0 and kind == "scipy":
        kind = "array"
    if kind == "array" or not rank:
        return Given(array)
    if kind == "scipy":
        return Given(array, str(rng.choice(["csr", "csc", "coo"])) if rank == 2 else "coo")
    levels = tuple(str(level) for level in rng.choice(LEVELS, rank))
    modes = tuple(int(m) for m in rng.permutation(rank))
    wide = bool(rng.random() < 0.15)
    if rank == len(dense):
        levels = ("dense",) * rank
    return Given(array, "tensor", levels, modes, wide)
