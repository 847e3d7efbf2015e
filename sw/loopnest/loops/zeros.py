"""Dense operands without their zeros, where an absent zero changes nothing.

An operand whose levels the user did not choose may be stored compressed for a kernel. The planner
tries each choice, and the cost model decides.

In sums of products, that is an entry of 0 whose factors are finite (``0 * inf`` is NaN); in
``min_plus``, an entry of inf whose terms are above -inf. On a bf16 chip the sign of a result that
is 0 may differ, and the last bits of sums that the leaf (`LeafMode.DOT`) or copies in the
accumulator group by what is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import inf, isinf, prod

import numpy as np

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Op

from ..expression.notation import Access, Binary, Expression, Negate, Statement, accesses
from ..expression.operand import Operand
from ..expression.semiring import Semiring, negates

MIN_ZEROS = 0.1
"""Share of zeros from which an operand may be stored without them."""

LARGEST = 2.0**126
"""Bound below which intermediate values must stay, so that none is infinite."""


def storages(
    statement: Statement, operands: Sequence[Operand], sizes: dict[str, int], semiring: Semiring
) -> Iterator[Sequence[Operand]]:
    """Yield the operands as they are, then with some and with all of the dense ones stored
    compressed whose zeros may be absent.

    Parameters
    ----------
    operands : sequence of Operand
        One for each access.
    sizes : dict
        Of the indices.
    """
    yield operands
    if not _absent_changes_nothing(statement, operands, sizes, semiring):
        return
    # an operand that is used twice is stored once
    sparser: dict[int, Operand] = {}
    for operand in operands[: len(list(accesses(statement.expression)))]:
        found = operand.without(semiring.zero, MIN_ZEROS)
        if found is not None:
            sparser.setdefault(operand.identity, found)
    for chosen in list(product((False, True), repeat=len(sparser)))[1:]:
        taken = {key for key, take in zip(sparser, chosen, strict=True) if take}
        yield [o.stored_as(sparser[o.identity]) if o.identity in taken else o for o in operands]


def _absent_changes_nothing(
    statement: Statement, operands: Sequence[Operand], sizes: dict[str, int], semiring: Semiring
) -> bool:
    """Return whether the semiring's zero, as an entry, is equivalent to an absent entry."""
    used = operands[: len(list(accesses(statement.expression)))]
    integer = used[0].dtype is NumberFormat.INT8
    if semiring.zero == 0:
        if not semiring.absent_is_zero(used):
            return False
        return integer or _largest(statement, used, sizes) < LARGEST
    if semiring.multiply is not Op.ADD or not isinf(semiring.zero) or integer:
        return False
    return all(operand.bounds[0] > -LARGEST / len(used) for operand in used)


def result_bounds(
    statement: Statement, operands: Sequence[Operand], sizes: Mapping[str, int], semiring: Semiring
) -> tuple[float, float]:
    """Return what the values of a statement's result lie between; NaN if an operand has one."""
    used = operands[: len(list(accesses(statement.expression)))]
    # a maximum is no more than one of its terms
    summed = sizes if semiring.add is Op.ADD else dict.fromkeys(sizes, 1)
    products = semiring.multiply is Op.MUL and semiring.zero == 0
    largest = _largest(statement, used, summed) if products else inf
    positive = all(o.bounds[0] >= 0 for o in used) and not negates(statement.expression)
    positive &= semiring.zero == 0  # what is absent is that zero
    return (0.0 if positive else -largest), largest


def _largest(statement: Statement, operands: Sequence[Operand], sizes: Mapping[str, int]) -> float:
    """Return a bound of all intermediate values' magnitudes; NaN if an operand has one."""
    at = iter(operands)

    def largest(e: Expression) -> float:
        match e:
            case Access():
                low, high = next(at).bounds
                return float(np.max([1.0, -low, high]))  # NaN where one is
            case Negate(term):
                return largest(term)
            case Binary("*", left, right):
                return largest(left) * largest(right)
            case Binary(_, left, right):
                return largest(left) + largest(right)

    return largest(statement.expression) * prod(float(sizes[i]) for i in statement.summed)
