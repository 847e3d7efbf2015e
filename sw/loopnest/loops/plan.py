"""Plans a kernel: from a statement and its operands to a nest, its loop order, levels and result.

The order is the user's, or the one with the fewest expected cycles among those whose result fits
the accumulator. Conversions of operands and results on the host count slightly against an order.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod

import scipy.sparse as sp

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import CellMode, Op
from loopnest_hw.format import ENTRY_BYTES

from ..arguments import sequence
from ..cost.counts import Counts
from ..cost.estimate import START, Estimate, estimate, fits, latency_cycles, replay_cycles
from ..expression.notation import Access, Binary, Expression, Negate, Statement
from ..expression.operand import Operand
from ..expression.reshaped import row_major as in_rows
from ..expression.semiring import PLUS_TIMES, Semiring
from ..expression.split import OneKernelError
from ..expression.stored import Stored
from ..expression.view import View
from ..formats.pack import DENSE
from ..formats.tensor import sparse_levels
from .lane import Lane, fit
from .nest import Nest
from .result import ResultPlan, fiber_loops, plan_result
from .storage import Storage
from .streams import assign_scanners, ring_cycles
from .zeros import storages

CONVERTING = 0.02
"""Share by which each operand or result that the host converts raises the cost of an order. It
takes no cycles on the chip, so it decides only between orders of nearly equal cycles.
"""

CONVERTING_TENSOR = 1.0
"""Cycles per entry of a `Tensor` that is converted: about those of reading and writing it."""

HOST_TRIP = 20_000.0
"""Cycles for which a result in the chip's memory counts that is converted: an interrupt, and the
host's access to memory; 40 us at 500 MHz."""

SKIPPING = 0.05
"""Share by which operands stored without their zeros raise the cost: what is saved has to be more
than the estimate may err."""

TRIPS = 2
"""Memory latencies from a row's first token to its first one for the row below, where it scans; as
many for the first values and the last results."""

FREE_TABLE = 1 << 24
"""Bytes up to which a result's position table counts nothing."""

LATENCY = 100
"""Memory latency in cycles for which a nest is planned by default."""


@dataclass(frozen=True)
class Plan:
    """A kernel before its operands are packed; ``operands`` are those of the nest's columns.

    ``cycles`` is what it is expected to take, ``converting`` what the tensors that the host
    converts count, ``clearing`` what the lines of a large position table count that have to be
    cleared, ``score`` all with what else is done on the host; ``ends`` is whether it is
    sure to end (`cost.holds`).
    """

    statement: Statement
    loops: tuple[str, ...]
    sizes: dict[str, int]
    operands: tuple[Operand, ...]
    nest: Nest
    result: ResultPlan
    scanners: dict[tuple[int, int], int]
    expected: Estimate
    cycles: float
    converting: float
    clearing: float
    score: float
    fits: bool
    semiring: Semiring

    @property
    def depth(self) -> int:
        """The number of rows."""
        return len(self.nest.rows)

    @property
    def mask(self) -> int | None:
        """The column of the mask."""
        return self.nest.lane.mask

    @property
    def stored(self) -> tuple[str, ...]:
        """What operands are stored without, in words, each once: zeros of dense ones, coordinates
        of indices.
        """
        columns = zip(self.operands, self.nest.columns, strict=True)
        notes = (
            f"{operand.name}: {100 * operand.zeros:.3g} % zeros, stored {','.join(stored.levels)}"
            for operand, stored in columns
            if operand.zeros is not None
        )
        left_out = (note for operand in self.operands for note in operand.left_out)
        return tuple(dict.fromkeys((*left_out, *notes)))


def index_sizes(statement: Statement, operands: Sequence[Operand]) -> dict[str, int]:
    """Return every index's size.

    Raises
    ------
    ValueError
        If an operand's order differs from its number of indices, or an index has two sizes.
    """
    sizes: dict[str, int] = {}
    first: dict[str, str] = {}
    for access, operand in zip(statement.accesses, operands, strict=True):
        if len(access.indices) != len(operand.shape):
            raise ValueError(
                f"{access}: {operand.name} has shape {operand.shape}: "
                f"expected {len(access.indices)} dimension{'s' * (len(access.indices) != 1)}"
            )
        for index, size in zip(access.indices, operand.shape, strict=True):
            if sizes.setdefault(index, size) != size:
                raise ValueError(
                    f"index {index!r} has size {sizes[index]} in {first[index]} "
                    f"and {size} in {access}"
                )
            first.setdefault(index, str(access))
    return sizes


def parse_order(order: str | Sequence[str] | None, statement: Statement) -> tuple[str, ...] | None:
    """Return the loops, outermost first: ``"ikj"``, ``"i,k,j"`` or a sequence.

    Raises
    ------
    ValueError
        If they are not the statement's indices, each once.
    TypeError
        If they are neither a string nor a sequence of strings.
    """
    if order is None:
        return None
    expected = "a string or a sequence of strings"
    loops: Sequence[str] = sequence("order", order, expected)
    if not all(isinstance(index, str) for index in loops):
        raise TypeError(f"order={order!r}: expected {expected}")
    if isinstance(order, str):
        loops = [i.strip() for i in order.split(",")] if "," in order else [order]
        if len(loops) == 1 and order not in statement.indices:
            loops = list(order)
    if sorted(loops) != sorted(statement.indices):
        raise ValueError(
            f"order {order!r}: expected the indices {', '.join(statement.indices)}, each once"
        )
    return tuple(loops)


def result_is_sparse(statement: Statement, operands: Sequence[Operand]) -> bool:
    """Return whether the result is compressed where the user does not say: in a sum where every
    term is; in a product where every factor is, or one that has all the result's indices, of
    which there are two or more. A number as a factor changes nothing. A mask counts as a factor.
    """
    if not statement.result.indices:
        return False
    at = iter(operands)

    def whole(e: Expression) -> bool:
        match e:
            case Access(_, indices):
                return len(statement.result.indices) > 1 and (
                    set(statement.result.indices) <= set(indices)
                )
            case Negate(term):
                return whole(term)
            case Binary("*", left, right):
                return whole(left) or whole(right)
            case Binary(_, left, right):
                return whole(left) and whole(right)

    def number(e: Expression) -> bool:
        return isinstance(e, Access) and not e.indices

    def sparse(e: Expression) -> bool:
        match e:
            case Access():
                return next(at).sparse
            case Negate(term):
                return sparse(term)
            case Binary(op, left, right):
                both = sparse(left), sparse(right)
                if op == "*" and number(left) is not number(right):
                    return both[number(left)]
                if op == "*":
                    covers = (both[0] and whole(left)) or (both[1] and whole(right))
                    return all(both) or covers
                return all(both)

    found = sparse(statement.expression)
    if statement.mask is not None and not statement.mask.complement:
        return found or (next(at).sparse and whole(statement.mask.access))
    return found


def default_levels(statement: Statement, operands: Sequence[Operand]) -> tuple[str, ...]:
    """Return the default levels of the result."""
    rank = len(statement.result.indices)
    return sparse_levels(rank) if result_is_sparse(statement, operands) else (DENSE,) * rank


def make_plan(
    config: ChipConfig,
    statement: Statement,
    operands: Sequence[Operand],
    *,
    order: str | Sequence[str] | None = None,
    compressed: bool,
    full: bool = False,
    latency: int = LATENCY,
    replayable: bool = False,
    relaxed: bool = False,
    skip_zeros: bool = False,
    row_major: bool = False,
    semiring: Semiring = PLUS_TIMES,
    counts: Counts | None = None,
) -> Plan:
    """Plan one kernel.

    Parameters
    ----------
    operands : sequence of Operand
        One for each operand of the statement, in the order written.
    order : str or sequence of str, optional
        The loops, outermost first.
    compressed : bool
        Whether the chip writes a compressed result.
    full : bool
        Whether every coordinate of the result has to be visited.
    latency : int
        Of the memory, in cycles: some orders are more sensitive to it than others.
    replayable : bool
        Choose among the orders whose result fibers may take further passes, for which any number of
        slots suffices.
    relaxed : bool
        Whether operands may have dense levels for compressed ones, which takes more memory and
        cycles, where there is no nest otherwise.
    skip_zeros : bool
        Whether dense operands whose levels were not chosen may be stored without their zeros
        (`zeros.storages`), where that is expected to take fewer cycles.
    row_major : bool
        Whether the host has to rearrange the result unless the chip writes it in the order of its
        modes.
    semiring : Semiring
        What ``+`` and ``*`` mean.
    counts : Counts, optional
        Of these operands, shared with other plans.

    Raises
    ------
    OneKernelError
        If a single kernel can't compute the statement; the message says why.
    """
    sizes = index_sizes(statement, operands)
    mask = statement.mask
    if mask is None or mask.complement or not mask.access.indices:
        for access, operand in zip(statement.accesses, operands, strict=True):
            if isinstance(operand, View) and operand.leaves:
                raise OneKernelError(
                    f"{statement}: {access} has coordinates outside {access.tensor}: expected a "
                    f"mask that keeps them out"
                )
    wide = [operand.wide and semiring.multiply is Op.MUL for operand in operands]
    lane = fit(statement, wide, config.operands)
    given = parse_order(order, statement)
    counts = Counts() if counts is None else counts

    def kernel(stored: Sequence[Operand]) -> _Kernel:
        return _Kernel(
            config=config,
            statement=statement,
            operands=stored,
            sizes=sizes,
            lane=lane,
            compressed=compressed,
            full=full,
            latency=latency,
            relaxed=relaxed,
            semiring=semiring,
            row_major=row_major,
            counts=counts,
        )

    skip_zeros &= not (full and semiring.zero != 0)
    choices = storages(statement, operands, sizes, semiring) if skip_zeros else [operands]
    if given is not None:
        return _in_order([kernel(stored) for stored in choices], given)
    if len(statement.indices) > config.rows:
        raise OneKernelError(
            f"{statement}: {len(statement.indices)} loops; a single kernel of this chip has "
            f"{config.rows} rows"
        )
    return _cheapest(map(kernel, choices), _orders(statement), replayable=replayable)


def _cheapest(
    kernels: Iterable["_Kernel"], orders: Sequence[tuple[str, ...]], *, replayable: bool
) -> Plan:
    """Return the cheapest plan, of equal ones the first: of the first kernel, and the first order.

    A kernel is planned for its first order. For its other ones it takes at least the cycles of its
    multiplications; if another plan is known to take fewer, they are not planned.
    """
    found: list[tuple[tuple[bool, float], int, int, Plan]] = []
    problem: OneKernelError | None = None
    left: list[tuple[float, int, _Kernel, int]] = []

    def plan(number: int, kernel: _Kernel, turn: int) -> Plan | None:
        nonlocal problem
        try:
            one = kernel.plan(orders[turn])
            if replayable and not one.result.replayable:
                raise OneKernelError(f"{kernel.statement}: no order allows further passes")
        except OneKernelError as error:
            problem = problem or error
            return None
        found.append((_worth(one), number, turn, one))
        return one

    for number, kernel in enumerate(kernels):
        for turn in range(len(orders)):
            one = plan(number, kernel, turn)
            if one is not None:
                left.append((kernel.bound(one), number, kernel, turn + 1))
                break
    for bound, number, kernel, begin in sorted(left, key=lambda some: some[:2]):
        if min(found)[0] >= (False, bound):
            for turn in range(begin, len(orders)):
                plan(number, kernel, turn)
    if not found:
        assert problem is not None
        raise problem
    return min(found)[-1]


def _in_order(kernels: Sequence["_Kernel"], loops: tuple[str, ...]) -> Plan:
    """Return the plan for these loops with the cheapest storage: the cheapest at the usual latency,
    since the order of a sum may not depend on the memory where the loops are given.
    """
    best, *others = kernels
    if others:
        worth = _worth(replace(best, latency=LATENCY).plan(loops))
        for kernel in others:
            with suppress(OneKernelError):
                own = _worth(replace(kernel, latency=LATENCY).plan(loops))
                if own < worth:
                    best, worth = kernel, own
    return best.plan(loops)


def _worth(plan: Plan) -> tuple[bool, float]:
    """Return what to compare plans by, the lower the better."""
    # rounded, so that the first of nearly equal plans is kept
    return not plan.fits, float(f"{plan.score:.9g}")


def _orders(statement: Statement) -> list[tuple[str, ...]]:
    """Return all orders, those that end in an index of the result first."""
    return sorted(
        permutations(statement.indices),
        key=lambda loops: bool(loops) and loops[-1] in statement.summed,
    )


@dataclass(frozen=True)
class _Kernel:
    """A kernel without a loop order."""

    config: ChipConfig
    statement: Statement
    operands: Sequence[Operand]
    sizes: dict[str, int]
    lane: Lane
    compressed: bool
    full: bool
    latency: int
    relaxed: bool
    semiring: Semiring
    row_major: bool
    counts: Counts

    def bound(self, plan: Plan) -> float:
        """Return a lower bound of the score of all orders, given the plan for one of them."""
        if self.relaxed or self.full:  # which levels are dense depends on the order
            return 0.0
        return START + plan.expected.multiplies / self.config.multipliers

    def plan(self, loops: tuple[str, ...]) -> Plan:
        """Return the plan for these loops."""
        config, target, mask = self.config, self.statement.result.indices, self.statement.mask
        # if a mask keeps nothing, the only fiber is the end of the nest
        full = self.full and (mask is None or self.operands[-1].nnz > 0)
        result = plan_result(target, loops, self.sizes, compressed=self.compressed, full=full)
        if full and mask is not None and not set(mask.access.indices) <= set(result.fiber_loops):
            raise OneKernelError(
                f"order {''.join(loops)!r}: an epilogue that makes 0 another value visits whole "
                f"rows: expected the loops of the mask {mask.access} outermost"
            )
        operands = tuple(self.operands[n] for n in self.lane.columns)
        storage = Storage(
            config,
            self.lane,
            loops,
            self.sizes,
            operands,
            tuple(self.statement.accesses[n] for n in self.lane.columns),
            fiber_loops(target, loops, self.compressed) if self.full else (),
        )
        nest = storage.nest(
            relaxed=self.relaxed, absent_is_zero=self.semiring.absent_is_zero(operands)
        )
        wide = [operand.wide for operand in operands]
        profiles = [o.profile(levels) for o, levels in zip(operands, nest.columns, strict=True)]
        expected = estimate(config, nest, profiles, wide, result, self.counts)
        scanners = assign_scanners(config, nest)
        expected.stages["rings"] = ring_cycles(config, scanners, expected, self.latency)
        moved = [o for o, s in zip(operands, nest.columns, strict=True) if _repacked(o, s)]
        in_order = tuple(i for i in loops if i in target) == target
        expected.stages |= latency_cycles(config, nest, result, expected, self.latency)
        scanning = sum(any(c.mode is CellMode.SCAN for c in row.cells) for row in nest.rows)
        cycles = expected.cycles + TRIPS * min(len(nest.rows), 1 + scanning) * self.latency
        cycles += replay_cycles(config, nest, expected, self.latency)
        score = cycles * (1 + CONVERTING * (len(moved) + (not in_order)))
        score *= 1 + SKIPPING * any(o.zeros is not None for o in operands)
        tensors = [o for o in moved if o.given is not None]
        converting = sum(CONVERTING_TENSOR * o.nnz + HOST_TRIP * o.in_memory for o in tensors)
        rows = in_rows(len(target))
        if self.row_major and result.layout(target, self.sizes) != rows:
            converting += CONVERTING_TENSOR * prod(self.sizes[i] for i in target) + HOST_TRIP
        table = result.fibers * ENTRY_BYTES if result.compressed else 0
        clearing = max(0, table - FREE_TABLE) / LINE_BYTES
        return Plan(
            statement=self.statement,
            loops=loops,
            sizes=self.sizes,
            operands=operands,
            nest=nest,
            result=result,
            scanners=scanners,
            expected=expected,
            cycles=cycles,
            converting=converting,
            clearing=clearing,
            score=score + converting + clearing,
            fits=fits(config, result, expected),
            semiring=self.semiring,
        )


def _repacked(operand: Operand, stored: Stored) -> bool:
    """Return whether a sparse operand has to be stored in another order than its own."""
    if not operand.sparse:
        return False
    if sp.issparse(operand.source):
        by_columns = operand.source.format == "csc"
        order = tuple(range(len(operand.source.shape)))
        return stored.packing[1] != (order[::-1] if by_columns else order)
    return operand.converted(stored)
