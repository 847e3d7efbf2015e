"""Panels: ranges of `PANEL` coordinates, into which wider indices are divided.

A block word numbers `PANEL` coordinates. So a wider compressed level is stored as two: its panels,
in a compressed level in front of all others, and the coordinates within a panel in its own place.
What lies below a panel is an ordinary tensor, next to those of the other panels that hold
something. A dense level has no block words, and so no panels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS

from .entries import order_of
from .pack import COMPRESSED

PANEL = 1 << COORDINATE_BITS
"""Coordinates of a panel, a multiple of those of a block. Tests set fewer."""

Columns = list[NDArray[np.int64]]


def wide_levels(sizes: Sequence[int], levels: Sequence[str]) -> list[int]:
    """Return the levels that are divided into panels."""
    pairs = zip(sizes, levels, strict=True)
    return [l for l, (size, kind) in enumerate(pairs) if kind == COMPRESSED and size > PANEL]


def divided(sizes: Sequence[int], levels: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the sizes and kinds of the levels as they are stored."""
    wide = wide_levels(sizes, levels)
    inner = [PANEL if l in wide else size for l, size in enumerate(sizes)]
    return [-(-sizes[l] // PANEL) for l in wide] + inner, [COMPRESSED] * len(wide) + [*levels]


def divide(
    columns: Sequence[NDArray[np.int64]], sizes: Sequence[int], levels: Sequence[str]
) -> tuple[Columns, NDArray[np.int64] | None]:
    """Return the coordinates of entries by stored level, and the order in which these are stored;
    None where they are in it.

    Parameters
    ----------
    columns : sequence of arrays
        By level, in the order of the levels.
    """
    wide = wide_levels(sizes, levels)
    if not wide:
        return list(columns), None
    outer = [columns[l] // PANEL for l in wide]
    inner = [column % PANEL if l in wide else column for l, column in enumerate(columns)]
    at = order_of(outer, [-(-sizes[l] // PANEL) for l in wide])
    both = [*outer, *inner]
    return both if at is None else [column[at] for column in both], at


def undivided(
    columns: Sequence[NDArray[np.int64]], sizes: Sequence[int], levels: Sequence[str]
) -> tuple[Columns, NDArray[np.int64] | None]:
    """Return the coordinates by level of entries that are given by stored level, in the order of
    the levels, and which entry each is; None where all are in their places.
    """
    wide = wide_levels(sizes, levels)
    if not wide:
        return list(columns), None
    found = list(columns[len(wide) :])
    for panel, l in zip(columns, wide, strict=False):
        found[l] = panel * PANEL + found[l]
    at = order_of(found, sizes)
    return found if at is None else [column[at] for column in found], at
