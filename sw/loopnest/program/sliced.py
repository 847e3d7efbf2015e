"""A result in slices along one of its indices, each of which has steps of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ..expression.expected import Expected, in_order
from ..expression.notation import Binary, Expression, Statement, named_apart
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
        return _joined(scope, goal, slices, compute)
    parts = [replace(statement.result, name=scope.name()) for _ in slices]
    of_part = Goal(statement, goal.levels)
    if scope.semiring.zero != 0:
        of_part = replace(of_part, levels=sparse_levels(len(statement.result.indices)))
    for part, result in zip(slices, parts, strict=True):
        scope.named[result.name] = _slice(scope, part, of_part, compute)
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
    return _joined(replace(scope, pieces=pieces), goal, slices, compute)


def _joined(scope: Scope, goal: Goal, slices: Sequence[Slice], compute: Compute) -> Expected:
    """Compute a result, joined from slices along one of its indices."""
    statement, levels = goal.statement, goal.levels
    sizes = scope.sizes(statement)
    found = [_slice(scope, part, goal, compute) for part in slices]
    whole = expected_result(
        statement,
        scope.operands(statement),
        sizes,
        in_order(levels),
        scope.config.dtype,
        scope.semiring,
        goal.epilogue,
    )

    what = f"join {len(slices)} slices along {slices[0].index}"
    return scope.on_host(what, found, whole, partial(_join, statement, sizes, levels, slices))


@named
def _join(
    statement: Statement,
    sizes: Mapping[str, int],
    levels: Sequence[str],
    slices: Sequence[Slice],
    *parts: Operand,
) -> Operand:
    tensors = [(cut, part.source) for cut, part in zip(slices, parts, strict=True)]
    joined = join(statement, sizes, levels, tensors)
    return Operand(statement.result.name, joined, parts[0].dtype)


def _slice(scope: Scope, part: Slice, goal: Goal, compute: Compute) -> Expected:
    """Compute the result of a slice of a statement."""
    sizes = scope.sizes(goal.statement)
    statement, of = named_apart(goal.statement)
    named = {
        part.access(a).name: scope.changed(
            f"slice {of[a.name]} along {part.index}",
            scope.named[of[a.name]],
            partial(part.operand, a, sizes=sizes),
        )
        for a in statement.accesses
    }
    return compute(
        scope.with_operands(named),
        replace(
            goal,
            statement=part.statement(statement),
            levels=part.levels(statement.result, goal.levels),
        ),
    )
