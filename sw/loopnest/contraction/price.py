"""Prices a kernel of a product whose factors may not be computed yet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf

from loopnest_hw.config import ChipConfig

from ..cost.counts import Counts
from ..expression.expected import Expected
from ..expression.fuse import Fusion, find_fusions
from ..expression.notation import Statement
from ..expression.operand import Operand
from ..expression.semiring import Semiring
from ..expression.slices import MAX_SLICES, Slice
from ..expression.split import OneKernelError
from ..loops.plan import Plan, index_sizes
from ..loops.planner import make_plan
from ..memory import result_bytes

UNSURE = 8.0
"""Factor on the cycles of a kernel whose result may not fit the accumulator: it may have to be
computed in slices.
"""


@dataclass(frozen=True)
class Price:
    """The expected cost of a kernel.

    Attributes
    ----------
    cycles : float
        Includes those that the host's conversions count (`Plan.converting`).
    memory : int
        Bytes of its result.
    layouts : mapping of str to tuple of str
        The order of the indices in which the kernel uses dense factors that are still to be
        computed.
    """

    cycles: float
    memory: int
    layouts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


IMPOSSIBLE = Price(inf, 0)


@dataclass(frozen=True)
class Pricer:
    """Prices kernels of a chip; ``latency`` is the memory's, in cycles. ``counts`` are those of the
    statement's operands.
    """

    config: ChipConfig
    latency: int
    semiring: Semiring
    counts: Counts

    def price(
        self,
        statement: Statement,
        operands: Sequence[Operand],
        *,
        compressed: bool,
        full: bool = False,
        skip_zeros: bool = False,
    ) -> Price:
        """Return the expected cost of a statement in one kernel, in one with fused indices, or in
        one for each coordinate of an index.

        Parameters
        ----------
        compressed, full, skip_zeros
            Arguments of `make_plan`.
        """
        plan = self._planner(compressed, full, skip_zeros)
        try:
            return _priced(plan(statement, operands))
        except OneKernelError:
            pass
        sizes = index_sizes(statement, operands)
        viewed = any(access.places is not None for access in statement.accesses)
        if not viewed:
            operands = [Expected.of(operand) for operand in operands]
            fused = _fused(plan, find_fusions(statement, sizes), statement, operands)
            best = min(fused, key=lambda price: price.cycles, default=IMPOSSIBLE)
            if best is not IMPOSSIBLE:
                return best
        found = _relaxed(plan, statement, operands)
        if found is not IMPOSSIBLE:
            return found
        index = min(statement.indices, key=lambda i: sizes[i])
        if viewed or len(statement.indices) <= self.config.rows:
            return IMPOSSIBLE
        if not 0 < sizes[index] <= MAX_SLICES or len(statement.indices) > self.config.rows + 1:
            return IMPOSSIBLE
        sliced = [
            operand.sliced(access.indices.index(index)) if index in access.indices else operand
            for access, operand in zip(statement.accesses, operands, strict=True)
            if isinstance(operand, Expected)
        ]
        try:
            price = _priced(plan(Slice(index, 0, 1, gone=True).statement(statement), sliced))
        except OneKernelError:
            return IMPOSSIBLE
        return Price(sizes[index] * price.cycles, sizes[index] * price.memory)

    def fusion(
        self, statement: Statement, operands: Sequence[Operand], *, compressed: bool
    ) -> Fusion | None:
        """Return the way to fuse indices that is expected to take the fewest cycles, in one kernel;
        None if there is none.
        """
        ways = find_fusions(statement, index_sizes(statement, operands))
        if len(ways) < 2 or any(access.places is not None for access in statement.accesses):
            return ways[0] if ways else None
        free = [Expected.of(operand) for operand in operands]
        prices = _fused(self._planner(compressed, False, False), ways, statement, free)
        return min(zip(prices, ways, strict=True), key=lambda found: found[0].cycles)[1]

    def _planner(self, compressed: bool, full: bool, skip_zeros: bool) -> Callable[..., Plan]:
        return partial(
            make_plan,
            self.config,
            compressed=compressed,
            full=full,
            latency=self.latency,
            skip_zeros=skip_zeros,
            semiring=self.semiring,
            counts=self.counts,
        )


def _fused(
    plan: Callable[..., Plan],
    ways: Sequence[Fusion],
    statement: Statement,
    operands: Sequence[Operand],
) -> Iterator[Price]:
    """Yield the price of one kernel for each way to fuse indices."""
    for fusion in ways:
        pairs = zip(statement.accesses, operands, strict=True)
        yield _relaxed(plan, fusion.statement(statement), [fusion.operand(*pair) for pair in pairs])


def _relaxed(plan: Callable[..., Plan], statement: Statement, operands: Sequence[Operand]) -> Price:
    """Return the price of one kernel, with dense levels for compressed ones if it needs them."""
    for relaxed in (False, True):
        try:
            return replace(_priced(plan(statement, operands, relaxed=relaxed)), layouts={})
        except OneKernelError:
            continue
    return IMPOSSIBLE


def _priced(plan: Plan) -> Price:
    layouts = {
        stored.access.name: stored.indices
        for stored, operand in zip(plan.nest.columns, plan.operands, strict=True)
        if isinstance(operand, Expected) and not operand.sparse
    }
    cycles = plan.alone * (1.0 if plan.fits else UNSURE) + plan.clearing + plan.converting
    return Price(cycles, result_bytes(plan), layouts)
