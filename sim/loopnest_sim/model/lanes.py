"""The leaf's lanes: ``x = op1(value[0], op2(value[1], value[2]))`` in each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Op, Reduction

from .arith import Flags, Wide, multiply, negate, reduce_pair, wide_type, widen

REDUCTIONS = {Op.ADD: Reduction.SUM, Op.MIN: Reduction.MIN, Op.MAX: Reduction.MAX}


def lanes(
    values: NDArray[Any],
    present: Flags,
    valid: Flags,
    *,
    op1: Op,
    op2: Op,
    wide: Sequence[bool],
    negated: Sequence[bool],
    fmt: NumberFormat,
) -> tuple[Wide, bool]:
    """Return what every lane of n steps computes.

    Parameters
    ----------
    values : NDArray
        Raw values from memory, shape ``(n, M, P)``, P being 2 or 3; a narrow one in the low bits.
    present : Flags
        Shape ``(n, M, P)``: the operand has a value in this lane. If one argument of an operator is
        absent, the result is the other; a lane without any is 0.
    valid : Flags
        Shape ``(n, M)``. A lane that is not valid is 0.
    op1, op2 : Op
        The operators. With two operands there is no op2. Of its narrow factor (op1's is
        ``value[0]``; op2's is ``value[2]``, or ``value[1]`` where only that is narrow), `MUL` takes
        what a narrow value or its negation has: the upper 16 bits (bf16) or the low 9 (int8).
    wide, negated : sequence of bool
        For each operand.
    fmt : NumberFormat
        The chip's number format.

    Returns
    -------
    x : NDArray
        Wide values, shape ``(n, M)``.
    overflow : bool
        In a valid lane, a negation, sum or product overflowed.
    """
    overflow = False
    factors: list[Wide] = []
    has: list[Flags] = []
    for o in range(values.shape[2]):
        here = present[..., o] & valid
        value = widen(values[..., o], fmt, wide[o])
        if negated[o]:
            value, flags = negate(value, fmt)
            overflow |= bool((flags & here).any())
        factors.append(value)
        has.append(here)

    y, has_y = factors[-1], has[-1]
    if len(factors) == 3:
        pair = [(factors[1], has[1]), (y, has_y)]
        if op2 == Op.MUL and wide[2] and not wide[1]:
            pair.reverse()
        y, flag = _apply(op2, *pair[0], *pair[1], fmt)
        has_y = has[1] | has[2]
        overflow |= flag
    pair = [(factors[0], has[0]), (y, has_y)]
    if op1 == Op.MUL:
        pair.reverse()
    x, flag = _apply(op1, *pair[0], *pair[1], fmt)
    return np.where(has[0] | has_y, x, wide_type(fmt)(0)), overflow | flag


def _narrow(a: Wide, fmt: NumberFormat) -> Wide:
    """Return `a` truncated to the bits of a narrow value or its negation: the upper 16 or the low
    9.
    """
    if fmt is NumberFormat.INT8:
        return a << 23 >> 23
    return (a.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _apply(
    op: Op, a: Wide, has_a: Flags, b: Wide, has_b: Flags, fmt: NumberFormat
) -> tuple[Wide, bool]:
    """Return op(a, b), or the argument that is present, and whether it overflowed anywhere.

    `MUL` has its narrow factor in b.
    """
    passed = np.where(has_a, a, b)
    if op == Op.FIRST:
        return passed, False
    both = has_a & has_b
    if op == Op.MUL:
        result, flags = multiply(a, _narrow(b, fmt), fmt)
    else:
        result, flags = reduce_pair(a, b, REDUCTIONS[op], fmt)
    return np.where(both, result, passed), bool((flags & both).any())
