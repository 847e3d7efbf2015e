"""Kernels of a matrix with heavy rows, which several PEs cannot share out evenly.

``y[i] = A[i,j] * x[j]`` becomes two kernels. In the first one A has virtual rows
(`expression.virtual`), and so has its result, whose last rows are y but for the heavy ones. The
second one adds up the virtual rows' wide results, in their order, and writes the heavy rows of y
where they belong; it visits no other one:

    part1[i] = A[i,j] * x[j]
    y[i] = ones1[i,v] * part1[v]

A result has this form if it is dense and wide, has the heavy rows' index outermost, as the
outermost loop, and each of its rows is summed over the second loop, which walks a compressed level
of one operand, the only one that has rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np

from ..expression.expected import Expected
from ..expression.notation import Access, Binary, Place, Statement, named_apart
from ..expression.operand import Operand
from ..expression.reshaped import LastRows, row_major
from ..expression.split import OneKernelError, factors_of, terms_of
from ..expression.stored import Stored
from ..expression.view import View
from ..expression.virtual import VirtualRows, divide_rows
from ..formats.pack import COMPRESSED
from ..formats.tensor import Tensor
from ..loops.plan import Plan
from ..nest.result import Part
from .predict import expected_result
from .scope import Goal, Scope
from .steps import KernelStep

MakePlan = Callable[[Scope, Goal, Sequence[str]], Plan]
"""Plans a kernel with these loops; raises `OneKernelError` if there is none."""


@dataclass(frozen=True)
class _Rows:
    """The operand whose rows a kernel shares out: its column, and its name in a statement that has
    a name for each access.
    """

    column: int
    statement: Statement
    of: dict[str, str]
    access: Access


def divided(scope: Scope, goal: Goal, plan: Plan, make: MakePlan) -> Expected | None:
    """Add the kernels for a result whose operand has heavy rows; None if it has none, or the chip
    cannot compute them so. ``plan`` is what computes it in one kernel.
    """
    rows = _rows(scope, goal, plan)
    if rows is None:
        return None
    operand, stored = plan.operands[rows.column], plan.nest.columns[rows.column]
    virtual = divide_rows(operand, stored, by_blocks=plan.depth == 2)
    if virtual is None:
        return None
    name = scope.name()
    named = {own: scope.named[given] for own, given in rows.of.items()}
    inner = scope.with_operands({**scope.named, **named, rows.access.name: virtual.operand})
    first = replace(rows.statement, result=replace(goal.statement.result, name=name))
    try:
        of_all = make(inner, replace(goal, statement=first), plan.loops)
    except OneKernelError:
        return None
    if _rows(inner, replace(goal, statement=first), of_all) is None:
        return None
    partial = _result(inner, first, of_all, goal, in_memory=True)
    found = _adding(scope, goal, of_all, partial, virtual, make)
    if found is None:
        return None
    scope.steps.append(KernelStep(of_all, None, partial))
    scope.steps.append(found)
    scope.bound.add(operand if operand.origin is None else operand.origin[0])
    return found.result


def _rows(scope: Scope, goal: Goal, plan: Plan) -> _Rows | None:
    """Return whose rows a kernel shares out; None if its result has not the form (see above)."""
    result, semiring = plan.result, plan.semiring
    if goal.epilogue is not None or goal.statement.mask is not None or len(plan.loops) < 2:
        return None
    row, summed = plan.loops[:2]
    target = goal.statement.result.indices
    layout = None if COMPRESSED in goal.levels else result.layout(target, plan.sizes)
    if layout != row_major(len(target)) or row not in target[:1] or summed in target:
        return None
    terms = terms_of(goal.statement.expression)
    if len(terms) > 1 or not all(isinstance(f, Access) for f in factors_of(terms[0].expression)):
        return None
    # a part without terms is a zero, next to those that have some
    if semiring.zero == 0 and not semiring.absent_is_zero(scope.operands(goal.statement)):
        return None
    columns = plan.nest.columns
    having = [c for c, stored in enumerate(columns) if stored.level(row) is not None]
    scanning = [c for c, stored in enumerate(columns) if _scans(stored, summed)]
    if len(having) != 1 or scanning != having:
        return None
    (column,) = having
    operand = plan.operands[column]
    if not operand.known or operand.is_view or columns[column].indices[:2] != (row, summed):
        return None
    statement, of = named_apart(goal.statement)
    access = statement.accesses[plan.nest.lane.columns[column]]
    return _Rows(column, statement, of, access)


def _scans(stored: Stored, index: str) -> bool:
    level = stored.level(index)
    return level is not None and stored.levels[level] == COMPRESSED


def _adding(
    scope: Scope,
    goal: Goal,
    of_all: Plan,
    partial: Expected,
    virtual: VirtualRows,
    make: MakePlan,
) -> KernelStep | None:
    """Return the kernel that adds up what was computed for virtual rows."""
    result, sizes = goal.statement.result, scope.sizes(goal.statement)
    row, *others = result.indices
    names = map("v{}".format, chain([""], count(1)))
    index = next(name for name in names if name not in goal.statement.indices)
    span = len(virtual.of)
    ones = Access(scope.name("ones"), (row, index))
    shown = index, *others
    places = tuple(Place(((i, 1),), 0) for i in shown)
    view = Access(f"{partial.name}[{','.join(shown)}]", shown, places)
    dtype = scope.config.dtype
    of_row = Tensor.from_coo(
        [virtual.of, np.arange(span)],
        np.full(span, scope.semiring.one),
        (sizes[row], span),
        levels=(COMPRESSED, COMPRESSED),
        dtype=dtype,
    )
    named = {
        ones.name: Operand(ones.name, of_row, dtype),
        view.name: View(partial, view, {**sizes, index: span}),
    }
    inner = scope.with_operands({**scope.named, **named})
    statement = Statement(result, Binary("*", ones, view))
    loops = [row, index, *(i for i in of_all.loops if i in others)]
    try:
        plan = make(inner, replace(goal, statement=statement), loops)
    except OneKernelError:
        return None
    column = next(c for c, o in enumerate(plan.operands) if o.name == ones.name)
    shape = tuple(sizes[i] for i in result.indices)
    part = Part(shape, (0,) * len(shape), tuple(range(len(shape))))
    placed = plan.result.placed(result.indices, plan.sizes, part)
    if placed is None or plan.nest.columns[column].levels != (COMPRESSED, COMPRESSED):
        return None
    found = _result(scope, goal.statement, plan, goal, in_memory=goal.as_written)
    base = LastRows(partial, sizes[row])
    return KernelStep(replace(plan, result=placed), None, found, base=base)


def _result(
    scope: Scope, statement: Statement, plan: Plan, goal: Goal, *, in_memory: bool
) -> Expected:
    return expected_result(
        statement,
        scope.operands(statement),
        scope.sizes(statement),
        row_major(len(statement.result.indices)),
        scope.config.dtype,
        plan.semiring,
        goal.epilogue,
        in_memory=in_memory,
    )
