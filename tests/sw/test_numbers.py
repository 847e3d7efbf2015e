"""Numbers as the chip stores them, against ml_dtypes."""

import re
import warnings
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from loopnest import Chip, Epilogue, Tensor
from loopnest.formats import numbers
from loopnest_hw.config import NumberFormat
from tests.sw.tensors import dense

BF16, INT8 = NumberFormat.BF16, NumberFormat.INT8


def at(k):
    return (k, 7)


@pytest.mark.filterwarnings("ignore:.*beyond the range")
@given(st.lists(st.floats(width=32)))
def test_bf16_rounds_to_nearest_even(values):
    exact = np.array(values, np.float32)
    got = numbers.encode(exact.astype(np.float64), BF16, False, at)
    expected = exact.astype(ml_dtypes.bfloat16).view(np.uint16)
    subnormal = np.abs(exact) < 2.0**-126
    expected = np.where(subnormal, expected & 0x8000, expected)
    expected = np.where(np.isnan(exact), 0x7FC0, expected)
    assert got.tolist() == expected.tolist()


@pytest.mark.filterwarnings("ignore:.*beyond the range")
@given(st.lists(st.floats()))
def test_bf16_rounds_doubles_once(values):
    exact = np.array(values, np.float64)
    got = numbers.decode(numbers.encode(exact, BF16, False, at)).astype(np.float64)
    lower_bits = numbers.encode(exact, BF16, False, at)
    for x, y, bits in zip(exact, got, lower_bits, strict=True):
        if np.isnan(x):
            assert bits == 0x7FC0
        elif abs(x) < 2.0**-126:
            assert y == 0 and np.signbit(y) == np.signbit(x)
        elif np.isfinite(y):
            # No bf16 number is nearer, and of two as near, the even one was taken.
            step = 2.0 ** (np.floor(np.log2(abs(y))) - 7)
            assert abs(x - y) <= step / 2
            assert abs(x - y) < step / 2 or bits % 2 == 0
        else:
            assert abs(x) >= (2 - 2.0**-8) * 2.0**127


def test_a_tie_that_single_precision_would_round_twice():
    # above the tie; rounded to fp32 it would be the tie, and be rounded down
    x = 1 + 2.0**-8 + 2.0**-40
    assert numbers.encode(np.array([x]), BF16, False, at) == 0x3F81


def test_wide_values():
    values = np.array([1.5, -0.0, np.nan, np.inf, 1e-40, 2.0**-149])
    bits = numbers.encode(values, BF16, True, at).view(np.uint32).tolist()
    assert bits == [0x3FC00000, 0x80000000, 0x7FC00000, 0x7F800000, 0, 0]


def test_int8_takes_integers_in_range():
    values = np.array([-128.0, 127.0, -0.0, 5.0])
    assert numbers.encode(values, INT8, False, at).tolist() == [-128, 127, 0, 5]
    assert numbers.encode(np.array([2**31 - 1]), INT8, True, at).tolist() == [2**31 - 1]


@pytest.mark.parametrize("value", [128, -129, 0.5, np.nan, np.inf, 1e300])
def test_int8_refuses_the_rest(value):
    with pytest.raises(ValueError, match=r"value .* at \(2, 7\): expected an integer from -128"):
        numbers.encode(np.array([1.0, 2.0, value]), INT8, False, at)


@pytest.mark.parametrize("values", [np.array([1j]), np.array(["x"]), np.array([None])])
def test_values_that_are_not_real_numbers(values):
    with pytest.raises(TypeError, match=r"at \(0, 7\): expected real numbers"):
        numbers.summable(values, at)


def test_unknown_format():
    with pytest.raises(ValueError, match=r"dtype 'fp8': expected one of int8, bf16"):
        numbers.number_format("fp8")


def nearest(exact: Fraction, bits: int) -> Fraction:
    """Return the nearest number with that many significant bits, even ones where two are as near.

    For numbers within the range of bf16.
    """
    if not exact:
        return exact
    step = Fraction(2) ** (np.floor(np.log2(float(abs(exact)))).astype(int).item() - bits + 1)
    for _ in range(2):  # the logarithm may be one off
        if abs(exact) >= step * 2**bits:
            step *= 2
        elif abs(exact) < step * 2 ** (bits - 1):
            step /= 2
    return round(exact / step) * step


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "f2", "f4",
                                  "f8", "g", ">i8", ">f4"])  # fmt: skip
@pytest.mark.parametrize("wide", [False, True])
def test_every_type_is_rounded_once(kind: str, wide: bool) -> None:
    """Random values, and those that a type in between would take to the middle of two."""
    rng = np.random.default_rng(1)
    dtype = np.dtype(kind)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = [int(rng.integers(limits.min, limits.max, dtype=dtype.newbyteorder("=")))
                  >> int(rng.integers(dtype.itemsize * 8)) for _ in range(300)]  # fmt: skip
        for top in range(dtype.itemsize * 8 - 1):
            for below in (8, 24):
                tie = (1 << top) + (1 << top >> below)
                values += [tie, tie + 1, tie - 1, tie + (1 << top >> 20)]
        values = [v for v in values if limits.min <= v <= limits.max]
        values += [-v for v in values if limits.min <= -v]
        exact = [Fraction(v) for v in values]
        array = np.array(values, dtype)
    elif dtype.kind == "b":
        array = np.array([False, True])
        exact = [Fraction(0), Fraction(1)]
    else:
        tie = 1 + dtype.type(2) ** -np.array([[8], [24]], dtype)
        last = np.finfo(dtype).eps * np.array([-1, 0, 1, 2], dtype)
        array = np.concatenate([rng.standard_normal(300), (tie + last).reshape(-1)], dtype=dtype)
        exact = [Fraction(*x.as_integer_ratio()) for x in array.astype(dtype.newbyteorder("="))]
    stored = numbers.encode(numbers.summable(array, at), BF16, wide, at)
    got = numbers.decode(stored)
    for x, y in zip(exact, got, strict=True):
        assert Fraction(float(y)) == nearest(x, 24 if wide else 8), x


def test_a_tie_of_64_bits() -> None:
    chip = Chip(dtype="bf16", backend="model")
    tie = 2**62 + 2**54
    x = np.array([tie, tie + 1, tie - 1, -tie - 1])
    expected = np.array([2.0**62, 2.0**62 + 2.0**55, 2.0**62, -(2.0**62) - 2.0**55])
    for operand in (x, sp.coo_array(x), Tensor.from_dense(x)):
        got = chip.compute("y[i] = x[i]", x=operand)
        np.testing.assert_array_equal(dense(got), expected)
    bias = Epilogue(bias=np.array([2**60 + 2**36 + 1, 0]), out="wide")
    got = chip.compute("y[i] = x[i]", x=np.zeros(2), epilogue=bias)
    assert got.tolist() == [2.0**60 + 2.0**37, 0]
    if np.finfo(np.longdouble).nmant > 60:
        scale = Epilogue(scale=np.longdouble(1) + np.longdouble(2) ** -24 + np.longdouble(2) ** -60)
        got = chip.compute("y[i] = x[i]", x=np.ones(1), epilogue=scale)
        assert got.tolist() == [1 + 2.0**-23]


def test_sums_of_duplicates_that_64_bits_do_not_hold() -> None:
    x = sp.coo_array((np.full(2, 2**62), ([1, 1],)), (3,))
    with pytest.raises(
        ValueError, match=r"duplicates with a sum of 9.22337e\+18: expected 64 bits"
    ):
        Tensor.from_scipy(x)


@pytest.mark.parametrize("wide", [False, True])
def test_a_warning_of_values_beyond_the_range(wide: bool) -> None:
    limit = (2 - 2.0 ** (-24 if wide else -8)) * 2.0**127
    good = [np.nextafter(limit, 0), -np.nextafter(limit, 0), np.inf, -np.inf, np.nan, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers.encode(np.array(good), BF16, wide, at)
    name = "fp32" if wide else "bf16"
    message = rf"value {re.escape(str(-limit))} at \(6, 7\) and 1 more: beyond the range of {name}"
    with pytest.warns(RuntimeWarning, match=message):
        got = numbers.encode(np.array([*good, -limit, 1e300]), BF16, wide, at)
    assert numbers.decode(got)[-2:].tolist() == [-np.inf, np.inf]


def test_the_warning_comes_once_and_names_operand_and_caller() -> None:
    chip = Chip(dtype="bf16", backend="model")
    large = np.array([[1, 1e300], [0, 2]])
    twice = sp.coo_array(([2e38, 2e38, 1], ([0, 0, 1], [1, 1, 1])), (2, 2))
    for a, shown in ((large, "1e+300"), (sp.csr_array(large), "1e+300"), (twice, "4e+38")):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            chip.compute("y[i] = A[i,j] * x[j] + A[i,j]", A=a, x=np.ones(2))
        assert [w.filename for w in found] == [__file__]
        assert str(found[0].message).startswith(f"A: value {shown} at (0, 1): beyond the range")
    with pytest.warns(RuntimeWarning, match=r"^bias: value 1e\+39 at \(1\)"):
        chip.compute("y[i] = x[i]", x=np.ones(2), epilogue=Epilogue(bias=[0, 1e39]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chip.compute("y[i] = A[i,j] * x[j]", A=large, x=np.ones(2), semiring="or_and")
        chip.compute("y[i] = x[i]", x=np.ones(2), mask=np.array([1e300, 0]))


@pytest.mark.parametrize("value", [np.longdouble(5) + np.longdouble(2) ** -60, 2**53 + 1, 2**31])
def test_an_int8_chip_takes_no_rounded_bias(value) -> None:
    if value == 5:
        pytest.skip("no type wider than float64")
    chip = Chip(dtype="int8", backend="model")
    with pytest.raises(ValueError, match=r"^bias=.*: expected a 32-bit integer on an int8 chip"):
        chip.compute("y[i] = x[i]", x=np.ones(2), epilogue=Epilogue(bias=np.array([1, value])))
