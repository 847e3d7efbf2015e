"""Decides whether a product may be regrouped: nothing but the order of its sums may change."""

from collections.abc import Collection, Mapping, Sequence
from math import prod

import numpy as np

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Op

from ..expression.operand import Operand
from ..expression.semiring import Semiring
from ..loops.zeros import LARGEST

LARGEST_INTEGER = float(np.iinfo(np.int32).max)


def may_regroup(semiring: Semiring, factors: Sequence[Operand]) -> bool:
    """Return whether a product may be summed in parts: ``*`` must distribute over ``+``. A product
    distributes over a maximum only for factors of 0 or more.
    """
    if semiring.add is not Op.MAX or semiring.multiply is not Op.MUL:
        return True
    return all(factor.bounds[0] >= 0 for factor in factors)


def fits(
    dtype: NumberFormat,
    factors: Sequence[Operand],
    summed: Collection[str],
    sizes: Mapping[str, int],
) -> bool:
    """Return whether no sum of a product of these factors overflows, is infinite or NaN; then an
    absent entry is also equivalent to a 0.
    """
    largest = LARGEST if dtype is NumberFormat.BF16 else LARGEST_INTEGER
    values = [float(np.max([1.0, -f.bounds[0], f.bounds[1]])) for f in factors]  # NaN where one is
    return prod(values) * prod(float(sizes[i]) for i in summed) < largest
