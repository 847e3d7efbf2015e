"""The leaf's lanes: ``x = op1(value[0], op2(value[1], value[2]))`` in each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Op, Reduction

from .arith import Flags, Wide, multiply, negate, reduce_pair, wide_type, widen

Factor = tuple[Wide, Flags]
"""Values of an operand in some lanes, and which of them it has."""

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
    factors: list[Factor] = []
    overflow = False
    for o in range(values.shape[2]):
        here = present[..., o] & valid
        value, flags = factor(values[..., o], wide=wide[o], negated=negated[o], fmt=fmt)
        overflow |= bool((flags & here).any())
        factors.append((value, here))
    x, flag = combine(factors, op1=op1, op2=op2, wide=wide, fmt=fmt)
    return x, overflow | flag


def factor(
    raw: NDArray[Any], *, wide: bool, negated: bool, fmt: NumberFormat
) -> tuple[Wide, Flags]:
    """Return an operand's raw values as wide ones, and where a negation overflowed."""
    value = widen(raw, fmt, wide)
    return negate(value, fmt) if negated else (value, np.broadcast_to(np.False_, value.shape))


def combine(
    factors: Sequence[Factor], *, op1: Op, op2: Op, wide: Sequence[bool], fmt: NumberFormat
) -> tuple[Wide, bool]:
    """Return what lanes compute of two or three factors, and whether it overflowed anywhere; a lane
    that has none is 0.
    """
    first, second = factors[:2]
    overflow = False
    if len(factors) == 3:
        a, b = second, factors[2]
        if op2 == Op.MUL and wide[2] and not wide[1]:
            a, b = b, a
        second, overflow = _apply(op2, a, b, fmt)
    a, b = first, second
    if op1 == Op.MUL:
        a, b = b, a
    (x, has), flag = _apply(op1, a, b, fmt)
    if not has.all():
        x = np.where(has, x, wide_type(fmt)(0))
    return x, overflow | flag


def _narrow(a: Wide, fmt: NumberFormat) -> Wide:
    """Return `a` truncated to the bits of a narrow value or its negation: the upper 16 or the low
    9.
    """
    if fmt is NumberFormat.INT8:
        return a << 23 >> 23
    return (a.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _apply(op: Op, one: Factor, other: Factor, fmt: NumberFormat) -> tuple[Factor, bool]:
    """Return op(a, b), or the argument that is present, and whether it overflowed anywhere.

    `MUL` has its narrow factor in b.
    """
    (a, has_a), (b, has_b) = one, other
    both, has = has_a & has_b, has_a | has_b
    if op == Op.FIRST:
        return (np.where(has_a, a, b), has), False
    if op == Op.MUL:
        result, flags = multiply(a, _narrow(b, fmt), fmt)
    else:
        result, flags = reduce_pair(a, b, REDUCTIONS[op], fmt)
    if both.all():
        return (result, has), bool(flags.any())
    return (np.where(both, result, np.where(has_a, a, b)), has), bool((flags & both).any())
