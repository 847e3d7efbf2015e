"""Numbers as the chip stores them, against ml_dtypes."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopnest.formats import numbers
from loopnest_hw.config import NumberFormat

BF16, INT8 = NumberFormat.BF16, NumberFormat.INT8


def at(k):
    return (k, 7)


@given(st.lists(st.floats(width=32)))
def test_bf16_rounds_to_nearest_even(values):
    exact = np.array(values, np.float32)
    got = numbers.encode(exact.astype(np.float64), BF16, False, at)
    expected = exact.astype(ml_dtypes.bfloat16).view(np.uint16)
    subnormal = np.abs(exact) < 2.0**-126
    expected = np.where(subnormal, expected & 0x8000, expected)
    expected = np.where(np.isnan(exact), 0x7FC0, expected)
    assert got.tolist() == expected.tolist()


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
    x = 1 + 2.0**-8 + 2.0**-40  # above the tie; as fp32 it would be the tie, and go down
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
def test_what_is_no_real_number(values):
    with pytest.raises(TypeError, match=r"at \(0, 7\): expected real numbers"):
        numbers.summable(values, at)


def test_unknown_format():
    with pytest.raises(ValueError, match=r"dtype 'fp8': expected one of int8, bf16"):
        numbers.number_format("fp8")
