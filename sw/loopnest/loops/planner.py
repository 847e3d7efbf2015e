"""Chooses the plan of a kernel: the order of its loops and the storage of its operands.

The order is the user's, or the one with the fewest expected cycles among those whose result fits
the accumulator.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, permutations

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import Op

from ..cost.counts import Counts
from ..expression.notation import Statement
from ..expression.operand import Operand
from ..expression.semiring import PLUS_TIMES, Semiring
from ..expression.split import OneKernelError
from ..expression.view import View
from ..nest.lane import fit
from .plan import Candidate, Plan, index_sizes, parse_order
from .storage import empty_fibers
from .streams import LATENCY
from .zeros import storages


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

    def kernel(stored: Sequence[Operand], hollow: Collection[int] = ()) -> Candidate:
        return Candidate(
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
            hollow=frozenset(hollow),
        )

    def kernels(stored: Sequence[Operand]) -> Iterator[Candidate]:
        few = [] if full else empty_fibers(statement, stored, sizes)
        for count in range(len(few) + 1):
            for hollow in combinations(few, count):
                yield kernel(stored, hollow)

    skip_zeros &= not (full and semiring.zero != 0)
    choices = storages(statement, operands, sizes, semiring) if skip_zeros else [operands]
    if given is not None:
        return _in_order([own for stored in choices for own in kernels(stored)], given)
    if len(statement.indices) > config.rows:
        raise OneKernelError(
            f"{statement}: {len(statement.indices)} loops; a single kernel of this chip has "
            f"{config.rows} rows"
        )
    every = (own for stored in choices for own in kernels(stored))
    return _cheapest(every, _orders(statement), replayable=replayable)


def _cheapest(
    kernels: Iterable["Candidate"], orders: Sequence[tuple[str, ...]], *, replayable: bool
) -> Plan:
    """Return the cheapest plan, of equal ones the first: of the first kernel, and the first order.

    A kernel is planned for its first order. For its other ones it takes at least the cycles of its
    multiplications; if another plan is known to take fewer, they are not planned.
    """
    found: list[tuple[tuple[bool, float], int, int, Plan]] = []
    problem: OneKernelError | None = None
    left: list[tuple[float, int, Candidate, int]] = []

    def plan(number: int, kernel: Candidate, turn: int) -> Plan | None:
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


def _in_order(kernels: Sequence["Candidate"], loops: tuple[str, ...]) -> Plan:
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
