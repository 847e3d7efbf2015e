"""The plan of a kernel: from a statement, its operands and the order of its loops to a nest, its
levels, the result, and the expected cost. Conversions on the host count slightly against an order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import scipy.sparse as sp

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.format import ENTRY_BYTES

from ..arguments import sequence
from ..cost.counts import Counts
from ..cost.estimate import (
    START,
    Estimate,
    estimate,
    fits,
    latency_cycles,
    several_cycles,
    start_cycles,
)
from ..expression.notation import Access, Binary, Expression, Negate, Statement
from ..expression.operand import Operand
from ..expression.reshaped import row_major as in_rows
from ..expression.semiring import Semiring
from ..expression.split import OneKernelError
from ..expression.stored import Stored
from ..formats.pack import DENSE
from ..formats.tensor import sparse_levels
from ..nest.lane import Lane
from ..nest.nest import Nest
from ..nest.result import ResultPlan, fiber_loops, plan_result
from .storage import Storage
from .streams import assign_scanners, ring_cycles

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

ALONE = 3.0
"""Share by which an outermost loop that PEs cannot share out raises the cost behind a cache, for a
single PE too: an order may not depend on their number.
"""

FREE_TABLE = 1 << 24
"""Bytes up to which a result's position table counts nothing."""


@dataclass(frozen=True)
class Plan:
    """A kernel before its operands are packed; ``operands`` are those of the nest's columns.

    ``cycles`` is what it is expected to take on the chip, ``alone`` on one PE: that decides, so
    that plans, and with them the last bits of sums, are those of any number of PEs. ``converting``
    is what the tensors that the host converts count, ``clearing`` what the lines of a large
    position table count that have to be cleared, ``score`` all with what else is done on the host;
    ``ends`` is whether it is sure to end (`cost.holds`).
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
    alone: float
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
        """How operands are stored otherwise than given, in words, each once: without zeros, without
        coordinates of indices, with rows divided.
        """
        columns = zip(self.operands, self.nest.columns, strict=True)
        zeros = (
            f"{operand.name}: {100 * operand.zeros:.3g} % zeros, stored {','.join(stored.levels)}"
            for operand, stored in columns
            if operand.zeros is not None
        )
        notes = (note for operand in self.operands for note in operand.notes)
        return tuple(dict.fromkeys((*notes, *zeros)))


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


@dataclass(frozen=True)
class Candidate:
    """A kernel without a loop order, its operands stored in one way."""

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
    hollow: frozenset[int] = frozenset()
    """Operands with compressed levels only, since many fibers are empty."""

    def bound(self, plan: Plan) -> float:
        """Return a lower bound of the score of all orders, given the plan for one of them."""
        if self.relaxed or self.full:  # which levels are dense depends on the order
            return 0.0
        return START + plan.expected.multiplies / self.config.multipliers

    def plan(self, loops: tuple[str, ...]) -> Plan:
        """Return the plan for these loops."""
        config, target, full = self.config, self.statement.result.indices, self.full
        result = plan_result(target, loops, self.sizes, compressed=self.compressed, full=full)
        self._check_mask(loops, result)
        operands = tuple(self.operands[n] for n in self.lane.columns)
        storage = Storage(
            config,
            self.lane,
            loops,
            self.sizes,
            operands,
            tuple(self.statement.accesses[n] for n in self.lane.columns),
            fiber_loops(target, loops, self.compressed) if full else (),
            frozenset(c for c, n in enumerate(self.lane.columns) if n in self.hollow),
        )
        nest = storage.nest(
            relaxed=self.relaxed, absent_is_zero=self.semiring.absent_is_zero(operands)
        )
        wide = [operand.wide for operand in operands]
        profiles = [o.profile(levels) for o, levels in zip(operands, nest.columns, strict=True)]
        expected = estimate(config, nest, profiles, wide, result, self.counts)
        scanners = assign_scanners(config, nest)
        rings = ring_cycles(config, scanners, expected, self.latency)
        expected.stages["rings"], expected.waits = rings
        moved = [o for o, s in zip(operands, nest.columns, strict=True) if _repacked(o, s)]
        in_order = tuple(i for i in loops if i in target) == target
        expected.stages |= latency_cycles(config, nest, result, expected, self.latency)
        start = start_cycles(expected, self.latency)
        alone = expected.cycles + start
        shared = result.shared(nest.rows[0].index)
        cycles = several_cycles(config, expected) + start if shared else alone
        score = alone * (1 + CONVERTING * (len(moved) + (not in_order)))
        score *= 1 + SKIPPING * any(o.zeros is not None for o in operands)
        if config.cached and not shared:
            score *= 1 + ALONE
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
            alone=alone,
            converting=converting,
            clearing=clearing,
            score=score + converting + clearing,
            fits=fits(config, result, expected),
            semiring=self.semiring,
        )

    def _check_mask(self, loops: tuple[str, ...], result: ResultPlan) -> None:
        """Refuse an order in which fibers would be filled that the mask leaves out.

        The mask has to keep whole fibers. One that keeps nothing ends none only in row 0: within
        another loop, the end of each coordinate of that loop would be a fiber's.
        """
        mask = self.statement.mask
        if not self.full or mask is None:
            return
        kept = mask.access.indices
        if loops[0] not in kept or not set(kept) <= set(result.fiber_loops):
            raise OneKernelError(
                f"order {''.join(loops)!r}: an epilogue that makes 0 another value visits whole "
                f"rows: expected the loops of the mask {mask.access} outermost"
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
