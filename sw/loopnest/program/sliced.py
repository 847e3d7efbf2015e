"""A result in slices along one of its indices, each of which has steps of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ..epilogue import keeps_zero
from ..expression.expected import Expected, in_order
from ..expression.notation import Binary, Expression, Statement
from ..expression.operand import Operand
from ..expression.slices import MAX_SLICES, Slice, join
from ..formats.tensor import sparse_levels
from ..loops.plan import Plan
from ..named import named
from .predict import expected_result
from .scope import Goal, Scope

Compute = Callable[[Scope, Goal], Expected]
"""Adds the steps for a result and returns it."""


def one_by_one(scope: Scope, goal: Goal, compute: Compute) -> Expected | None:
    """Compute a result by slices of single coordinates of the smallest index; None if there are
    too many.
    """
    statement = goal.statement
    sizes = scope.sizes(statement)
    index = min(statement.indices, key=lambda i: sizes[i])
    kept = index in statement.result.indices
    if not 0 < sizes[index] <= MAX_SLICES or not (kept or goal.epilogue is None):
        return None
    slices = [Slice(index, n, n + 1, gone=True) for n in range(sizes[index])]
    if kept:
        return joined(scope, goal, slices, compute)
    parts = [replace(statement.result, name=scope.name()) for _ in slices]
    of_part = Goal(statement, goal.levels)
    if scope.semiring.zero != 0:
        of_part = replace(of_part, levels=sparse_levels(len(statement.result.indices)))
    for (own, inner), result in zip(scope.slices(statement, slices), parts, strict=True):
        scope.named[result.name] = compute(inner, replace(of_part, statement=own))
    total: Expression = parts[0]
    for result in parts[1:]:
        total = Binary("+", total, result)
    return compute(scope, replace(goal, statement=Statement(statement.result, total)))


def halves(scope: Scope, plan: Plan, goal: Goal, compute: Compute) -> Expected | None:
    """Compute the result of a kernel with too few slots, in halves of the result's largest index;
    None if there is none to halve.
    """
    pieces = 2 * scope.pieces
    epilogue = goal.epilogue
    if pieces > MAX_SLICES or (epilogue is not None and epilogue.reads_memory):
        return None
    sizes = scope.sizes(plan.statement)
    index = max(plan.result.key_loops, key=lambda i: sizes[i], default=None)
    if index is None or sizes[index] < 2:
        return None
    half = sizes[index] // 2
    slices = [Slice(index, 0, half), Slice(index, half, sizes[index])]
    return joined(replace(scope, pieces=pieces), goal, slices, compute)


def joined(
    scope: Scope,
    goal: Goal,
    slices: Sequence[Slice],
    compute: Compute,
    *,
    present: Callable[[Scope, Statement], Statement | None] = lambda _, statement: statement,
) -> Expected:
    """Compute a result, joined from slices along one of its indices.

    Parameters
    ----------
    present : callable
        Returns what is left of a slice's statement; None if that has no terms, so that the slice is
        not computed.
    """
    statement, levels, semiring = goal.statement, goal.levels, scope.semiring
    sizes = scope.sizes(statement)
    shape = [sizes[i] for i in statement.result.indices]
    axis = statement.result.indices.index(slices[0].index)
    found: list[tuple[Slice, Expected]] = []
    for part, (own, inner) in zip(slices, scope.slices(statement, slices), strict=True):
        kept = present(inner, own)
        absent = kept is None and keeps_zero(goal.epilogue, semiring.zero)
        if absent and (found or part is not slices[-1]):
            continue
        epilogue = goal.epilogue
        if epilogue is not None and not part.gone:
            epilogue = epilogue.part(shape, axis, part.start, part.stop)
        of_part = replace(
            goal,
            statement=own if kept is None else kept,
            levels=part.levels(statement.result, levels),
            epilogue=epilogue,
        )
        found.append((part, compute(inner, of_part)))
    whole = expected_result(
        statement,
        scope.operands(statement),
        sizes,
        in_order(levels),
        scope.config.dtype,
        semiring,
        goal.epilogue,
    )
    if len(found) == len(slices) and not slices[0].gone:
        whole.panels = axis, tuple((part.start, part.stop, result) for part, result in found)
    zero = semiring.zero_bits(scope.config.dtype) if goal.epilogue is None else 0
    computed = [part for part, _ in found]
    what = f"join {len(found)} slices along {slices[0].index}"
    join_parts = partial(_join, statement, sizes, levels, computed, zero)
    return scope.on_host(what, [result for _, result in found], whole, join_parts)


@named
def _join(
    statement: Statement,
    sizes: Mapping[str, int],
    levels: Sequence[str],
    slices: Sequence[Slice],
    zero: int,
    *parts: Operand,
) -> Operand:
    tensors = [(cut, part.source) for cut, part in zip(slices, parts, strict=True)]
    found = join(statement, sizes, levels, tensors, zero)
    return Operand(statement.result.name, found, parts[0].dtype)
