"""Plans a statement: one kernel if one can compute it, otherwise several, and what the host does
between them. Nothing is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from loopnest_hw.config import ChipConfig
from loopnest_hw.format import WORD_BYTES

from ..contraction.choose import Contraction
from ..contraction.price import Pricer
from ..contraction.rewrite import may_regroup
from ..epilogue import keeps_zero
from ..expression.compact import Compaction, find_compaction
from ..expression.expected import Expected, in_order
from ..expression.fuse import Fusion, find_fusions
from ..expression.notation import Access, Negate, Statement, named_apart
from ..expression.operand import Operand
from ..expression.semiring import Semiring
from ..expression.split import OneKernelError, factors_of, is_group, product_of, terms_of
from ..expression.view import View
from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import sparse_levels
from ..loops.plan import Plan, default_levels
from ..loops.planner import make_plan
from ..loops.streams import LATENCY
from ..memory import capacity, check_result, refusal, result_bytes
from ..named import named
from .heavy import divided
from .panelled import panelled
from .predict import expected_result
from .prepare import Prepared
from .regroup import check_split
from .schedule import needed
from .scope import Goal, Scope
from .sliced import halves, one_by_one
from .steps import KernelStep, Step


@dataclass(frozen=True)
class Planned:
    """A statement and the steps that compute it; the last one's result is the statement's.

    ``fixed`` are the tensors for whose entries alone they are right.
    """

    prepared: Prepared
    steps: tuple[Step, ...]
    fixed: frozenset[str]

    @property
    def result(self) -> Operand:
        """What the steps after these know the result by."""
        return self.steps[-1].result


def build(
    config: ChipConfig,
    prepared: Prepared,
    latency: int = LATENCY,
    *,
    as_written: bool = False,
    row_major: bool = False,
) -> Planned:
    """Return the steps that compute a statement.

    Where an order is given, each kernel takes those loops that it has. Intermediates have no
    epilogue.

    Parameters
    ----------
    latency : int
        Of the memory, in cycles.
    as_written : bool
        Leave the result in the layout in which the chip writes it, for statements after this one.
    row_major : bool
        Statements after this one have it in other shapes, which the order of its modes allows
        without moving anything.

    Raises
    ------
    OneKernelError
        If no sequence of kernels can compute it.
    ValueError
        If a result takes more memory than there is.
    """
    statement, semiring, named = prepared.statement, prepared.semiring, prepared.named
    chosen, epilogue = prepared.levels, prepared.epilogue
    scope = Scope(config, named, prepared.order, latency, semiring, set(), list(prepared.steps))
    sizes = scope.sizes(statement)
    compaction = None
    known = all(operand.known for operand in prepared.operands)
    # an array of biases or scales is of the whole result
    arrays = epilogue is not None and epilogue.reads_memory
    if known and keeps_zero(epilogue, semiring.zero) and not arrays:
        compaction = find_compaction(statement, named, sizes)
    if compaction is None:
        goal = Goal(statement, chosen, epilogue, as_written=as_written, row_major=row_major)
        found = _compute(scope, goal)
        return Planned(prepared, needed(scope.steps, [found]), _fixed(scope, prepared))
    shape = tuple(sizes[i] for i in statement.result.indices)
    if COMPRESSED not in chosen:
        check_result(str(statement), shape, WORD_BYTES * prod(shape))
    inner = scope.with_operands(compaction.named)
    result = _compute(inner, Goal(compaction.statement, chosen, epilogue))
    whole = expected_result(
        statement,
        prepared.operands,
        sizes,
        in_order(chosen),
        config.dtype,
        semiring,
        epilogue,
    )

    what = "put back the coordinates that no operand stores"
    only = replace(compaction, named={})
    scope.on_host(what, [result], whole, partial(_expand, only, shape, chosen, semiring))
    return Planned(prepared, needed(scope.steps, [whole]), _tensors(statement))


def _tensors(statement: Statement) -> frozenset[str]:
    return frozenset(access.tensor for access in statement.accesses)


def _fixed(scope: Scope, prepared: Prepared) -> frozenset[str]:
    """Return the tensors for whose entries alone the steps are right."""
    pairs = zip(prepared.statement.accesses, prepared.operands, strict=True)
    own = {operand: access.tensor for access, operand in pairs}
    if scope.left_out or not scope.bound <= own.keys():
        return _tensors(prepared.statement)
    return frozenset(own[operand] for operand in scope.bound)


@named
def _expand(
    compaction: Compaction,
    shape: Sequence[int],
    levels: Sequence[str],
    semiring: Semiring,
    result: Operand,
) -> Operand:
    tensor = compaction.expand(result.source, shape, levels, semiring)
    return Operand(result.name, tensor, result.dtype)


def _compute(scope: Scope, goal: Goal) -> Expected:
    """Add the steps for the result of a statement; return it."""
    statement = goal.statement
    full = not keeps_zero(goal.epilogue, scope.semiring.zero)
    operands = scope.operands(statement)
    absent = any(o.sparse for o in operands) and not scope.semiring.absent_is_zero(operands)
    if full and absent:
        # visiting the whole result would treat an operand's absent entries as 0
        return _after(scope, goal)
    group = scope.splitter(statement).grouped(statement)
    if group is not None:
        check_split(scope, statement, group)
        for part in group.parts:
            _part(scope, part)
        return _compute(scope, replace(goal, statement=group.rest))
    if not goal.whole:
        found = _contracted(scope, goal, full=full)
        if found is not None:
            return found
    found = panelled(scope, goal, _compute)
    if found is not None:
        return found
    try:
        plan = _plan(scope, goal, scope.order)
    except OneKernelError as error:
        # a part of a statement has no mask, which a view out of bounds needs
        whole = goal.whole or any(isinstance(o, View) and o.leaves for o in operands)
        found = _several(scope, goal, apart=not whole)
        if found is not None:
            return found
        try:
            plan = _plan(scope, goal, scope.order, relaxed=True)
        except OneKernelError:
            found = _several(scope, goal) if whole else None
            if found is not None:
                return found
            raise error from None
    shape = tuple(plan.sizes[i] for i in statement.result.indices)
    check_result(str(statement), shape, result_bytes(plan))
    found = divided(scope, goal, plan, _plan)
    return _kernel(scope, goal, plan, may_fail=True) if found is None else found


def _plan(
    scope: Scope,
    goal: Goal,
    order: Sequence[str] | None,
    *,
    replayable: bool = False,
    relaxed: bool = False,
) -> Plan:
    """Plan one kernel."""
    statement, epilogue = goal.statement, goal.epilogue
    return make_plan(
        scope.config,
        statement,
        scope.operands(statement),
        order=None if order is None else [i for i in order if i in statement.indices],
        compressed=COMPRESSED in goal.levels,
        full=not keeps_zero(epilogue, scope.semiring.zero),
        latency=scope.latency,
        replayable=replayable,
        relaxed=relaxed,
        # without an epilogue the pattern of a compressed result is that of its terms
        skip_zeros=COMPRESSED not in goal.levels or epilogue is not None,
        row_major=goal.row_major,
        semiring=scope.semiring,
        counts=scope.counts,
    )


def _kernel(scope: Scope, goal: Goal, plan: Plan, *, may_fail: bool) -> Expected:
    """Add a kernel; return its result. ``may_fail``: there may be another way to compute it."""
    epilogue = goal.epilogue
    written = None
    if goal.as_written:
        written = plan.result.layout(goal.statement.result.indices, plan.sizes)
    result = expected_result(
        goal.statement,
        scope.operands(goal.statement),
        plan.sizes,
        in_order(goal.levels) if written is None else written,
        scope.config.dtype,
        scope.semiring,
        epilogue,
        in_memory=written is not None,
    )
    instead = partial(_instead, scope, goal, plan) if may_fail else None
    scope.steps.append(KernelStep(plan, epilogue, result, instead))
    return result


def _instead(scope: Scope, goal: Goal, plan: Plan) -> tuple[Step, ...] | None:
    """Return steps for a kernel whose result does not fit the accumulator: the estimate was too
    low.
    """
    scope = scope.with_steps()
    if scope.order is None:
        try:
            other = _plan(scope, goal, None, replayable=True, relaxed=True)
        except OneKernelError:
            pass
        else:
            _kernel(scope, goal, other, may_fail=False)
            return tuple(scope.steps)
    found = halves(scope, plan, goal, _compute)
    return None if found is None else tuple(scope.steps)


def _contracted(scope: Scope, goal: Goal, *, full: bool) -> Expected | None:
    """Compute a product of three or more factors in the kernels that are expected to take the
    fewest cycles; None where that is one, and of any other statement.
    """
    statement = goal.statement
    term, *others = terms_of(statement.expression)
    factors = factors_of(term.expression)
    accesses = [factor for factor in factors if isinstance(factor, Access)]
    if others or scope.order is not None or is_group(term.expression):
        return None
    if len(factors) < 3 or len(accesses) < len(factors):
        return None
    masks = () if statement.mask is None else (statement.mask.access,)
    operands = [scope.named[access.name] for access in (*accesses, *masks)]
    if not may_regroup(scope.semiring, operands[: len(accesses)]):
        return None
    compressed, limit = COMPRESSED in goal.levels, capacity()
    contraction = Contraction(
        _pricer(scope),
        replace(statement, expression=product_of(accesses)),
        operands,
        compressed=compressed,
        full=full,
        skip_zeros=not compressed or goal.epilogue is not None,
        memory=limit,
    )
    parts = contraction.choose()
    if parts is None:
        if contraction.refused is not None:
            raise ValueError(refusal(*contraction.refused, limit))
        return None
    named: dict[frozenset[int], Access] = {
        frozenset([n]): access for n, access in enumerate(accesses)
    }
    for part in parts:
        product = product_of([named[node] for node in part.factors])
        if part is parts[-1]:
            break
        result = named[part.node] = Access(scope.name(), part.kept)
        levels = sparse_levels(len(part.kept)) if part.compressed else (DENSE,) * len(part.kept)
        _part(scope, Statement(result, product), levels, whole=True)
    expression = Negate(product) if term.negate else product
    return _compute(
        scope, replace(goal, statement=replace(statement, expression=expression), whole=True)
    )


def _several(scope: Scope, goal: Goal, *, apart: bool = True) -> Expected | None:
    """Compute a statement that one kernel cannot compute; None if several cannot, either.
    ``apart``: it may be taken apart.
    """
    statement, epilogue = goal.statement, goal.epilogue
    splitter = scope.splitter(statement)
    split = splitter.split(statement) if apart else None
    if split is not None:
        check_split(scope, statement, split)
        for part in split.parts:
            _part(scope, part)
        return _compute(scope, replace(goal, statement=split.rest))
    too_many = len(statement.indices) > scope.config.rows
    if epilogue is not None and epilogue.reads_memory:
        # its shape is that of the whole result, not that of a fused result or a slice
        if isinstance(statement.expression, Access) or not too_many:
            return None
        return _after(scope, goal)
    fusion = _fusion(scope, goal)
    if fusion is not None:
        return _fused(scope, fusion, goal)
    if not too_many:
        return None
    split = splitter.reduce(statement)
    if split is None:
        return one_by_one(scope, goal, _compute)
    check_split(scope, statement, split)
    for part in split.parts:
        _part(scope, part)
    return _compute(scope, replace(goal, statement=split.rest))


def _pricer(scope: Scope) -> Pricer:
    return Pricer(scope.config, scope.latency, scope.semiring, scope.counts)


def _fusion(scope: Scope, goal: Goal) -> Fusion | None:
    """Return the way to fuse indices; None if there is none."""
    statement = goal.statement
    if scope.order is not None:
        return next(iter(find_fusions(statement, scope.sizes(statement))), None)
    operands = scope.operands(statement)
    return _pricer(scope).fusion(statement, operands, compressed=COMPRESSED in goal.levels)


def _fused(scope: Scope, fusion: Fusion, goal: Goal) -> Expected:
    """Compute the result with some indices fused."""
    statement, of = named_apart(goal.statement)
    named = {
        a.name: scope.changed(
            f"fuse the indices of {of[a.name]}", scope.named[of[a.name]], partial(fusion.operand, a)
        )
        for a in statement.accesses
    }
    order = None if scope.order is None else fusion.loops(scope.order)
    result = statement.result
    fused = _compute(
        replace(scope, named=named, order=order),
        replace(
            goal,
            statement=fusion.statement(statement),
            levels=fusion.levels(result, goal.levels),
        ),
    )
    sizes = scope.sizes(goal.statement)
    whole = expected_result(
        goal.statement,
        scope.operands(goal.statement),
        sizes,
        in_order(goal.levels),
        scope.config.dtype,
        scope.semiring,
        goal.epilogue,
    )

    what = f"part the fused indices of {result.name}"
    unfuse = partial(_unfuse, fusion, result, sizes, goal.levels)
    return scope.on_host(what, [fused], whole, unfuse)


@named
def _unfuse(
    fusion: Fusion,
    result: Access,
    sizes: Mapping[str, int],
    levels: Sequence[str],
    fused: Operand,
) -> Operand:
    tensor = fusion.unfuse(result, fused.source, sizes).convert(levels)
    return Operand(result.name, tensor, fused.dtype)


def _part(
    scope: Scope,
    part: Statement,
    levels: tuple[str, ...] | None = None,
    *,
    whole: bool = False,
) -> None:
    """Compute an intermediate, and add it to the operands."""
    if levels is None:
        levels = default_levels(part, scope.operands(part))
        if scope.semiring.zero != 0:  # no entry represents that zero, so it is omitted
            levels = sparse_levels(len(part.result.indices))
    scope.named[part.result.name] = _compute(scope, Goal(part, levels, whole=whole))


def _after(scope: Scope, goal: Goal) -> Expected:
    """Compute the result with an epilogue that a separate kernel applies to the whole result."""
    whole = replace(goal.statement.result, name=scope.name())
    _part(scope, replace(goal.statement, result=whole), goal.levels)
    return _compute(scope, replace(goal, statement=replace(goal.statement, expression=whole)))
