"""Tensors that occur more than once: at several accesses, under two names, as an operand and the
mask.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from loopnest.expression.notation import Access, Statement, accesses

from .cases import Given
from .views import viewed_modes


def repeat_tensors(
    rng: np.random.Generator, statement: Statement, sizes: Mapping[str, int]
) -> tuple[Statement, dict[str, int]] | None:
    """Return the statement with one tensor at several accesses, and the indices' sizes: equal
    where its modes are the same. None if no two accesses have the same number of indices.
    """
    own = list(accesses(statement.expression))
    first = own[int(rng.integers(len(own)))]
    others = [a for a in own if a is not first and len(a.indices) == len(first.indices) > 0]
    if not others:
        return None
    count = int(rng.integers(1, len(others) + 1))
    chosen = {str(name) for name in rng.choice([a.name for a in others], count, replace=False)}
    same = {i: {i} for i in sizes}
    for access in others:
        if access.name in chosen:
            for i, j in zip(first.indices, access.indices, strict=True):
                both = same[i] | same[j]
                same |= dict.fromkeys(both, both)

    def named(access: Access) -> Access:
        return Access(first.name, access.indices) if access.name in chosen else access

    return statement.with_accesses(named), {i: min(sizes[j] for j in same[i]) for i in sizes}


def share_operand(
    rng: np.random.Generator, statement: Statement, operands: Mapping[str, Given]
) -> dict[str, Given]:
    """Return the operands with one of them under two names, if two have the same shape."""
    names = [str(name) for name in rng.permutation(list(operands))]
    for first, second in combinations(names, 2):
        alike = operands[first].array.shape == operands[second].array.shape
        if alike and viewed_modes(statement, first) == viewed_modes(statement, second):
            return {**operands, second: operands[first]}
    return dict(operands)


def mask_of_operands(
    rng: np.random.Generator, operands: Mapping[str, Given], shape: Sequence[int]
) -> tuple[str, tuple[int, ...]] | None:
    """Return an operand that can be the mask of a result of this shape, and the result's mode for
    each of its modes.
    """
    for name in (str(name) for name in rng.permutation(list(operands))):
        array = operands[name].array
        if not 0 < array.ndim <= len(shape):
            continue
        modes = tuple(int(n) for n in rng.permutation(len(shape))[: array.ndim])
        if array.shape == tuple(shape[n] for n in modes):
            return name, modes
    return None
