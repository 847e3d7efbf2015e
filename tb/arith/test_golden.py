"""The golden arithmetic against exact fractions."""

import math
import random
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Reduction
from loopnest_sim.model.arith import add, multiply, reduce_pair, to_bf16, widen
from loopnest_sim.model.chains import FEW_CHAINS, sum_chains
from tb.arith.operands import float_pairs

BF16, INT8 = NumberFormat.BF16, NumberFormat.INT8


def nearest(exact: Fraction, zero_sign: int) -> int:
    """Return the fp32 bits of an exact result, as docs/architecture.md defines them."""
    sign = int(exact < 0) if exact else zero_sign
    magnitude = abs(exact)
    if magnitude < Fraction(1, 2**126):
        return sign << 31
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    # Python rounds a fraction to nearest even
    number = round(magnitude / Fraction(2) ** (exponent - 23))
    bits = (exponent + 127 << 23) + number - (1 << 23)
    return sign << 31 | min(bits, 0x7F800000)


def expected(a: np.float32, b: np.float32, operation: str) -> int:
    """Return the bits of a sum or product."""
    sign_a, sign_b = int(np.signbit(a)), int(np.signbit(b))
    if math.isfinite(a) and math.isfinite(b):
        x, y = Fraction(float(a)), Fraction(float(b))
        if operation == "add":
            return nearest(x + y, sign_a & sign_b)
        return nearest(x * y, sign_a ^ sign_b)
    # infinities and NaNs follow IEEE 754, but there is only one NaN
    with np.errstate(all="ignore"):
        special = a + b if operation == "add" else a * b
    return 0x7FC00000 if np.isnan(special) else int(special.view(np.uint32))


@pytest.mark.parametrize("operation", [add, multiply])
def test_floats(operation: object) -> None:
    """Every kind of pair, bit for bit."""
    pairs = np.array(float_pairs(random.Random(1), 5000), np.uint32)
    a, b = widen(pairs[:, 0], BF16, True), widen(pairs[:, 1], BF16, True)
    results = operation(a, b, BF16)[0].view(np.uint32)
    for x, y, result in zip(a, b, results.tolist(), strict=True):
        assert result == expected(x, y, operation.__name__), f"{x!r}, {y!r}"


@pytest.mark.parametrize("operation", [add, multiply])
def test_integers(operation: object) -> None:
    """Wrapped results and overflow flags."""
    rng = np.random.default_rng(1)
    a, b = (
        (rng.integers(-(1 << 31), 1 << 31, 5000) >> rng.integers(0, 31, 5000)).astype(np.int32)
        for _ in range(2)
    )
    exact = a.astype(object) + b if operation is add else a.astype(object) * b
    result, overflow = operation(a, b, INT8)
    assert 0 < overflow.sum() < 5000
    assert (result == [(x + 2**31) % 2**32 - 2**31 for x in exact]).all()
    assert (overflow == [not -(2**31) <= x < 2**31 for x in exact]).all()


def test_bf16() -> None:
    """Rounding to bf16 equals ml_dtypes', and widening inverts it."""
    bits = np.random.default_rng(1).integers(0, 1 << 32, 20000, np.uint32)
    x = widen(np.concatenate([bits, [0x3F808000, 0x3F818000, 0x7F7FFFFF]]), BF16, True)
    rounded = to_bf16(x)
    right = x.astype(ml_dtypes.bfloat16)
    numbers = ~np.isnan(x)
    assert (rounded[numbers] == right.view(np.uint16)[numbers]).all()
    assert (rounded[~numbers] == 0x7FC0).all()
    assert (to_bf16(widen(rounded, BF16)) == rounded).all()
    assert to_bf16(np.array([1e-40, -1e-40], np.float32)).tolist() == [0, 0x8000]


@pytest.mark.parametrize("reduction", Reduction)
@pytest.mark.parametrize("rare", [False, True])
@pytest.mark.parametrize("fmt", [BF16, INT8])
@pytest.mark.parametrize("chains", [3, 4 * FEW_CHAINS, 1 << 40])
def test_sum_chains(fmt: NumberFormat, chains: int, rare: bool, reduction: Reduction) -> None:
    """Every chain in order, however many, and where sums are flushed or overflow."""
    rng = np.random.default_rng(chains)
    n = 3000
    chain = (np.round(rng.random(n) ** 3, 2) * chains).astype(np.int64)
    raw = rng.integers(0, 1 << 32, n, np.uint32)
    if fmt is BF16:
        # magnitudes near the smallest normal number, where partial sums are flushed, in some chains
        exponent = rng.integers(1, 4, n) + np.where(rare & (chain % 3 > 0), 0, 120)
        raw = raw & np.uint32(0x807FFFFF) | exponent.astype(np.uint32) << np.uint32(23)
        raw[rng.random(n) < 0.1] &= np.uint32(1 << 31)  # zeros of both signs
        raw[:3] = 0x7F800000, 0xFF800000, 0x7FC00000
    elif not rare:
        raw = (raw.view(np.int32) >> 12).view(np.uint32)
    values = widen(raw, fmt, True)
    found, sums, overflow = sum_chains(values, chain, fmt, reduction)
    assert found.tolist() == sorted(set(chain.tolist()))
    wrapped = False
    for c, total in zip(found, sums, strict=True):
        first, *rest = values[chain == c][:, None]
        for value in rest:
            first, flags = reduce_pair(first, value, reduction, fmt)
            wrapped |= bool(flags[0])
        assert first[0].tobytes() == total.tobytes()
    assert overflow == wrapped == (fmt is INT8 and rare and reduction is Reduction.SUM)
