"""Views of sparse operands that no loops can walk: the entries of the view become a separate
operand.

A diagonal ``A[i,i]`` selects entries; a window ``x[i+j]`` of a sparse vector repeats each entry.
Nothing is made dense.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..formats.layouts import coordinates
from ..formats.tensor import MAX_ORDER, Tensor, sparse_levels
from .expected import Expected, in_order
from .notation import Access, Place
from .operand import Operand
from .view import MAX_SHOWN, View

MAX_FIBERS = 1 << 20
"""Maximum number of coordinates of the viewed modes for which these are walked as dense levels."""


def look(operand: Operand, access: Access, sizes: Mapping[str, int]) -> tuple[Access, Operand]:
    """Return an access through a view and its operand: the view itself or, if the operand is sparse
    and its viewed modes cannot be walked, the view's entries, without a view.

    Parameters
    ----------
    sizes : mapping of str to int
        Of the indices (`view_sizes`).
    """
    view = View(operand, access, sizes)
    viewed = prod(operand.shape[mode] for mode in view.viewed)
    walked = len(view.viewed) < len(operand.shape) and viewed <= MAX_FIBERS
    if not operand.sparse or walked or len(access.indices) > MAX_ORDER:
        return access, view
    by_mode = operand.coordinates()
    assert by_mode is not None and access.places is not None
    found = shown_entries(access.places, access.indices, sizes, by_mode)
    if found is None:
        return access, view
    columns, entry = found
    return replace(access, places=None), _with_entries(operand, access.name, view, columns, entry)


def shown_entries(
    places: Sequence[Place],
    indices: Sequence[str],
    sizes: Mapping[str, int],
    by_mode: Sequence[NDArray[np.int64]],
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]] | None:
    """Return the coordinates of a view's entries by index, and the stored entry of each; None if
    there are more than `MAX_SHOWN`.

    Parameters
    ----------
    by_mode : sequence of arrays
        Coordinates of the stored entries.
    """
    entry = np.arange(len(by_mode[0]))
    known: dict[str, NDArray[np.int64]] = {}
    left = list(range(len(places)))

    def unknown(mode: int) -> list[tuple[str, int]]:
        return [(i, factor) for i, factor in places[mode].terms if i not in known]

    while left:
        mode = min(left, key=lambda m: len(unknown(m)))
        rest = by_mode[mode][entry] - places[mode].offset
        for index, factor in places[mode].terms:
            if index in known:
                rest = rest - factor * known[index]
        terms = sorted(unknown(mode), key=lambda term: sizes[term[0]])
        if not terms:
            kept = rest == 0
            left.remove(mode)
        elif len(terms) == 1:
            ((index, factor),) = terms
            known[index] = rest // factor
            kept = (rest % factor == 0) & (rest >= 0) & (known[index] < sizes[index])
            left.remove(mode)
        else:
            # every value of the smallest index for which the others can be in range
            (index, factor), *others = terms
            reach = sum(f * (sizes[i] - 1) for i, f in others)
            first = np.maximum(0, -((reach - rest) // factor))
            count = np.minimum(sizes[index] - 1, rest // factor) - first + 1
            count = np.maximum(0, count)
            if count.sum() > MAX_SHOWN:
                return None
            of = np.repeat(np.arange(len(entry)), count)
            number = np.arange(len(of)) - (np.cumsum(count) - count)[of]
            entry = entry[of]
            known = {i: values[of] for i, values in known.items()}
            known[index] = first[of] + number
            continue
        entry = entry[kept]
        known = {i: values[kept] for i, values in known.items()}
    return [known[i] for i in indices], entry


def _with_entries(
    operand: Operand,
    name: str,
    view: View,
    columns: Sequence[NDArray[np.int64]],
    entry: NDArray[np.int64],
) -> Operand:
    if isinstance(operand, Expected):
        levels = sparse_levels(len(view.shape))
        return operand.reshaped(view.shape, lambda _: columns, in_order(levels))
    source = operand.source
    if isinstance(source, Tensor):
        _, stored = source.stored_entries()
        levels = sparse_levels(len(view.shape))
        shown = Tensor.from_stored(
            view.shape, levels, columns, stored[entry], dtype=source.dtype, wide=source.wide
        )
        return Operand(name, shown, operand.dtype)
    shown = coordinates(columns, source.tocoo().data[entry], view.shape)
    return Operand(name, shown, operand.dtype)
