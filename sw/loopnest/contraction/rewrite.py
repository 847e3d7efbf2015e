"""Which products may be regrouped: where that changes no more than the order of sums."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.descriptor import Op

from ..expression.operand import Operand
from ..expression.semiring import Semiring
from ..formats import numbers
from ..formats.tensor import Tensor

LARGEST = float.fromhex("0x1.FEp127")
"""The largest finite bf16 value."""


def may_regroup(semiring: Semiring, factors: Sequence[Operand]) -> bool:
    """Return whether a product may be summed part by part: ``*`` has to distribute over ``+``. A
    product and a maximum do so for factors of 0 or more alone.
    """
    if semiring.add is not Op.MAX or semiring.multiply is not Op.MUL:
        return True
    return all(not np.any(_values(factor) < 0) for factor in factors)


def finite(factors: Sequence[Operand]) -> bool:
    """Return whether every value is finite on the chip: then an absent entry is as good as a 0."""
    return all(bool(np.all(np.abs(_values(f)) <= LARGEST)) for f in factors)


def _values(operand: Operand) -> NDArray:
    """Return the values that an operand stores."""
    source = operand.source
    if isinstance(source, Tensor):
        return numbers.decode(source.values)
    if sp.issparse(source):
        return np.asarray(source.tocoo().data, np.float64)
    return np.asarray(source, np.float64)
