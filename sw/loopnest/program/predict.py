"""Predicts a kernel's result for the kernels after it: where it has entries, and their bounds.

A prediction decides which plan is chosen, never what is computed.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..contraction.pattern import EVERYWHERE, MAX_ENTRIES, Pattern, joined, pattern_of
from ..epilogue import Epilogue
from ..expression.expected import Expected, Layout
from ..expression.notation import Access, Binary, Expression, Negate, Statement
from ..expression.operand import Operand
from ..expression.semiring import Semiring
from ..expression.split import factors_of
from ..expression.view import View
from ..formats.pack import COMPRESSED
from ..loops.zeros import result_bounds


def expected_result(
    statement: Statement,
    operands: Sequence[Operand],
    sizes: Mapping[str, int],
    layout: Layout,
    dtype: NumberFormat,
    semiring: Semiring,
    epilogue: Epilogue | None,
    *,
    in_memory: bool = False,
) -> Expected:
    """Return what planning sees of a statement's result with this layout."""
    indices = statement.result.indices
    bounds = result_bounds(statement, operands, sizes, semiring)
    compressed = COMPRESSED in layout[0]

    @cache
    def sample() -> tuple[list[NDArray[np.int64]], float]:
        return _coordinates(statement, operands, sizes, indices[layout[1][0]])

    return Expected(
        statement.result.name,
        [sizes[i] for i in indices],
        dtype,
        (lambda: sample()[0]) if compressed else None,
        scale=lambda: sample()[1],
        layout=layout,
        wide=epilogue is None or not epilogue.narrow,
        bounds=bounds if epilogue is None else epilogue.bounds(*bounds),
        in_memory=in_memory,
    )


def _coordinates(
    statement: Statement, operands: Sequence[Operand], sizes: Mapping[str, int], outer: str
) -> tuple[list[NDArray[np.int64]], float]:
    """Return the expected entries' coordinates by mode, and how many entries each stands for: of
    many it is a sample of whole fibers below an outer index.
    """
    indices = statement.result.indices
    pattern = find_pattern(statement, operands, sizes)
    # entries of a sample lead to one
    scale = max((o.scale for o in operands if not isinstance(o, View)), default=1.0)
    many = pattern.entries * prod(sizes[i] for i in indices if i not in pattern.indices)
    if many <= MAX_ENTRIES:
        return pattern.spread(indices, sizes), scale
    kept = np.random.default_rng(0).random(sizes[outer]) < MAX_ENTRIES / many
    kept[0] |= not kept.any()
    if outer in pattern.indices:
        chosen = kept[pattern.columns[pattern.indices.index(outer)]]
        columns = tuple(column[chosen] for column in pattern.columns)
        some = Pattern(pattern.indices, columns)
    else:
        (rows,) = np.nonzero(kept)
        entries = pattern.entries if pattern.indices else 1
        columns = tuple(np.tile(column, len(rows)) for column in pattern.columns)
        some = Pattern((outer, *pattern.indices), (np.repeat(rows, entries), *columns))
    found = some.spread(indices, sizes)
    return found, scale * many / max(1, len(found[0]))


def find_pattern(
    statement: Statement, operands: Sequence[Operand], sizes: Mapping[str, int]
) -> Pattern:
    """Return where the result has entries, as far as its operands tell."""
    at = iter(operands)

    def walk(e: Expression, kept: Collection[str]) -> Pattern:
        match e:
            case Access():
                return pattern_of(e, next(at)).onto(kept, sizes)
            case Negate(term):
                return walk(term, kept)
            case Binary("*"):
                everything = statement.indices
                factors = [walk(factor, everything) for factor in factors_of(e)]
                return joined(factors, kept, sizes)
            case Binary(_, left, right):
                return _union([walk(left, kept), walk(right, kept)], sizes)

    indices = statement.result.indices
    found = walk(statement.expression, indices)
    mask = statement.mask
    if mask is not None and not mask.complement:
        found = joined([found, pattern_of(mask.access, next(at))], indices, sizes)
    return found


def _union(patterns: Sequence[Pattern], sizes: Mapping[str, int]) -> Pattern:
    """Return where any of some patterns has an entry; everywhere if that is too much to tell."""
    indices = tuple(dict.fromkeys(i for p in patterns for i in p.indices))
    space = {i: sizes[i] for i in indices}
    for p in patterns:
        count = p.entries * prod(size for i, size in space.items() if i not in p.indices)
        if not p.indices or count > MAX_ENTRIES:
            return EVERYWHERE
    spread = [p.spread(indices, sizes) for p in patterns]
    both = Pattern(indices, tuple(np.concatenate(columns) for columns in zip(*spread, strict=True)))
    return both.distinct(sizes)
