"""How much an operand's levels hold, counted from its coordinates: the cost model's input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES

from .pack import COMPRESSED


@dataclass(frozen=True)
class Profile:
    """Counts by level, outermost first.

    Attributes
    ----------
    fibers : tuple of int
        Fibers of the level: the children of the one above, 1 at the outermost.
    children : tuple of int
        Coordinates over all fibers: the stored ones, or all of a dense level's.
    words : tuple of int
        Block words over all fibers that hold them (of a dense level those it would take).
    """

    fibers: tuple[int, ...]
    children: tuple[int, ...]
    words: tuple[int, ...]

    def fill(self, level: int) -> float:
        """Return the mean number of coordinates of a fiber."""
        return self.children[level] / max(1, self.fibers[level])

    def blocks(self, level: int) -> float:
        """Return the mean number of block words of a fiber."""
        return self.words[level] / max(1, self.fibers[level])


def take_profile(
    levels: Sequence[str], sizes: Sequence[int], coordinates: Sequence[NDArray[np.int64]] | None
) -> Profile:
    """Count what each level holds.

    Parameters
    ----------
    coordinates : sequence of arrays, optional
        Of the stored entries, by level, in any order; None where every coordinate is stored.
    """
    fibers: list[int] = []
    children: list[int] = []
    words: list[int] = []
    if coordinates is not None:
        at = np.lexsort(list(coordinates)[::-1])
        coordinates = [c[at] for c in coordinates]
        # where an entry differs from the one before it, in the levels so far
        differs = np.arange(len(at)) == 0
    nodes = 1
    for l, (kind, size) in enumerate(zip(levels, sizes, strict=True)):
        fibers.append(nodes)
        if kind == COMPRESSED and coordinates is not None:
            words.append(int(np.count_nonzero(differs | _changes(coordinates[l] // LANES))))
        else:
            words.append(nodes * -(-size // LANES))
        if coordinates is not None:
            differs = differs | _changes(coordinates[l])
        if kind == COMPRESSED and coordinates is not None:
            nodes = int(np.count_nonzero(differs))
        else:
            nodes *= size
        children.append(nodes)
    return Profile(tuple(fibers), tuple(children), tuple(words))


def _changes(sorted_coordinates: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.diff(sorted_coordinates, prepend=sorted_coordinates[:1]) != 0
