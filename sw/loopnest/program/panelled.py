"""Statements with indices of more coordinates than a loop has: one for each panel of them.

Panels of an index of the result are computed side by side. Of an index that is summed over, a term
becomes the terms of its panels. They are computed in this order, and added up as many at a time as
a kernel has operands: ``((p0 + p1 + p2) + p3 + p4) + ...``. A panel in which a product has no terms
is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from loopnest_hw.descriptor import Op
from loopnest_hw.format import WORD_BYTES

from ..epilogue import keeps_zero
from ..expression.absent import without_absent
from ..expression.expected import Expected
from ..expression.notation import Access, Statement
from ..expression.operand import Operand
from ..expression.slices import Slice
from ..expression.split import Term, indices_of, product_of, sum_of, terms_of
from ..formats import panels
from ..formats.pack import COMPRESSED
from ..formats.tensor import sparse_levels
from ..loops.plan import default_levels
from ..memory import check_result
from .scope import Goal, Scope
from .sliced import Compute, joined

UNIT = ("'",)
"""An index of one coordinate, which no statement has."""


def panelled(scope: Scope, goal: Goal, compute: Compute) -> Expected | None:
    """Compute a result panel by panel along one index; None if no index has several.

    Raises
    ------
    ValueError
        If a dense result takes more memory than there is.
    """
    statement = goal.statement
    index = next(iter(_wide(scope, statement)), None)
    if index is None:
        return None
    if index not in statement.result.indices:
        return _summed(scope, goal, index, compute)
    if COMPRESSED not in goal.levels:
        sizes = scope.sizes(statement)
        shape = tuple(sizes[i] for i in statement.result.indices)
        check_result(str(statement), shape, WORD_BYTES * prod(shape))
    slices = _slices(scope, statement, index)
    return joined(scope, goal, slices, compute, present=_present)


def _wide(scope: Scope, statement: Statement) -> list[str]:
    """Return the indices that have several panels, the result's first."""
    sizes = scope.sizes(statement)
    return [i for i in statement.indices if sizes.get(i, 0) > panels.PANEL]


def _slices(scope: Scope, statement: Statement, index: str) -> list[Slice]:
    """Return the panels of an index."""
    size, step = scope.sizes(statement)[index], panels.PANEL
    return [Slice(index, n, min(n + step, size)) for n in range(0, size, step)]


def _present(scope: Scope, statement: Statement) -> Statement | None:
    """Return a statement without operands that have no entries; None if it has no terms, in no
    panel of what it is summed over.
    """
    absent = {a.name for a in statement.accesses if scope.named[a.name].empty}
    scope.left_out.update(absent)
    found = without_absent(statement, absent) if absent else statement
    if found is None:
        return None
    for index in _wide(scope, found):
        if index not in found.result.indices and not any(
            index not in indices_of(term.expression)
            or any(part is not None for part, _ in _panels(scope, found, term, index))
            for term in terms_of(found.expression)
        ):
            return None
    return found


def _panels(
    scope: Scope, statement: Statement, term: Term, index: str
) -> list[tuple[Statement | None, Scope]]:
    """Return what is present of a term's panels, and the scopes of their operands."""
    alone = replace(statement, expression=term.expression)
    cut = scope.slices(alone, _slices(scope, alone, index))
    return [(_present(inner, own), inner) for own, inner in cut]


@dataclass(frozen=True)
class _Part:
    """A panel of a term: a statement of its own, the scope of its operands, and its sign."""

    statement: Statement
    scope: Scope
    negate: bool


def _summed(scope: Scope, goal: Goal, index: str, compute: Compute) -> Expected:
    """Compute a result whose terms are summed over panels of an index."""
    statement = goal.statement
    whole: list[Term] = []
    parts: list[_Part] = []
    without: list[_Part] = []
    for term in terms_of(statement.expression):
        if index not in indices_of(term.expression):
            whole.append(term)
            continue
        found = _panels(scope, statement, term, index)
        present = [_Part(own, inner, term.negate) for own, inner in found if own is not None]
        parts += present
        if not present:
            alone = replace(statement, expression=term.expression)
            first = scope.slices(alone, _slices(scope, alone, index))[0]
            without.append(_Part(*first, term.negate))
    has = {i for term in whole for i in indices_of(term.expression)}
    has.update(*(indices_of(part.statement.expression) for part in parts))
    if not has >= set(statement.result.indices):
        parts += without  # the sizes of indices depend on them
    if not parts and not whole:
        parts = without[:1]
    if len(parts) > 1 or whole:
        return _added(scope, goal, whole, parts, compute)
    (part,) = parts
    expression = sum_of([Term(part.statement.expression, part.negate)])
    only = replace(part.statement, expression=expression)
    return compute(part.scope, replace(goal, statement=only))


def _added(
    scope: Scope, goal: Goal, whole: Sequence[Term], parts: Sequence[_Part], compute: Compute
) -> Expected:
    """Compute the sum of some terms and of parts that are computed first."""
    statement = goal.statement
    pending: list[Term] = []
    every = (*statement.result.indices, *UNIT)
    if scope.order is not None:
        scope = replace(scope, order=(*scope.order, *UNIT))
    masked = bool(whole) or not keeps_zero(goal.epilogue, scope.semiring.zero)
    for part in parts:
        if len(pending) == scope.config.operands:
            total = sum_of(pending)
            kept = tuple(i for i in every if i in indices_of(total))
            added = Statement(Access(scope.name(), kept), total)
            pending = [Term(_part(scope, scope, goal, added, compute), False)]
        own = part.statement
        kept = tuple(i for i in statement.result.indices if i in indices_of(own.expression))
        if kept != statement.result.indices:
            own, masked = replace(own, mask=None), True
        inner = replace(part.scope, order=scope.order)
        if not kept and _may_hide(part, scalar=not statement.result.indices):
            kept = statement.result.indices[:1] or UNIT
            ones = _ones(inner, kept, scope.sizes(statement))
            own = replace(own, expression=product_of([own.expression, ones]))
        own = replace(own, result=Access(scope.name(), kept))
        pending.append(Term(_part(scope, inner, goal, own, compute), part.negate))
    expression = sum_of([*whole, *pending])
    final = Statement(statement.result, expression, statement.mask if masked else None)
    return compute(scope, replace(goal, statement=final))


def _part(scope: Scope, own: Scope, goal: Goal, statement: Statement, compute: Compute) -> Access:
    """Compute a partial result from operands of its ``own``. It is compressed where a coordinate
    without terms is not one with the semiring's zero, and where the whole result is.
    """
    levels = default_levels(statement, own.operands(statement))
    if COMPRESSED in goal.levels or scope.semiring.add is not Op.ADD:
        levels = sparse_levels(len(statement.result.indices))
    found = compute(own, Goal(statement, levels, whole=goal.whole))
    scope.named[statement.result.name] = found
    return statement.result


def _may_hide(part: _Part, *, scalar: bool) -> bool:
    """Return whether a number that has no terms, and so is the semiring's zero, is another one in a
    sum than none: a 0 is larger than negative terms; and unless the sum is a number too
    (``scalar``), it has an entry.
    """
    semiring = part.scope.semiring
    if scalar and semiring.zero != 0:
        return False
    return not semiring.absent_is_zero(part.scope.operands(part.statement))


def _ones(scope: Scope, indices: tuple[str, ...], sizes: Mapping[str, int]) -> Access:
    """Add a vector of the semiring's ones to the operands; of an index that has no size, a single
    one.
    """
    (index,) = indices
    array = np.full(sizes.get(index, 1), scope.semiring.one)
    access = Access(scope.name("ones"), indices)
    scope.named[access.name] = Operand(access.name, array, scope.config.dtype)
    return access
