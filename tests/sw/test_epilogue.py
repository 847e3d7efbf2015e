"""The epilogue, against plain NumPy."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from loopnest import Chip, Epilogue, Tensor
from loopnest.convolution import convolve
from loopnest.epilogue import multipliers
from tests.sw.tensors import arrays, dense, shapes, sparse

INT8, BF16 = (Chip(dtype=dtype, backend="model") for dtype in ("int8", "bf16"))

OUTS = st.sampled_from(["dense,dense", "dense,compressed", "compressed,compressed"])
ORDERS = st.sampled_from(["ikj", "ijk", "jki", "kij", "kji", None])


def to_int8(sums, epilogue, narrow=True):
    """The int8 epilogue in exact arithmetic, without rounding of the scale."""
    bias = np.broadcast_to(0 if epilogue.bias is None else epilogue.bias, sums.shape)
    scale = np.broadcast_to(1 if epilogue.scale is None else epilogue.scale, sums.shape)
    low, high = epilogue.clamp or (None, None)
    result = np.zeros(sums.shape, np.int64)
    for at in np.ndindex(sums.shape):
        x = round((int(sums[at]) + int(bias[at])) * Fraction(float(scale[at])))
        x = 0 if abs(x) < epilogue.threshold else x
        x = max(x, 0) if epilogue.relu else x
        x = x if low is None else max(x, low)
        x = x if high is None else min(x, high)
        result[at] = np.clip(x, -128, 127) if narrow else x
    return result


@settings(max_examples=40, deadline=None)
@given(st.data(), ORDERS, OUTS, st.sampled_from(["number", "row", "column"]), st.booleans())
def test_int8(data, order, out, varies, relu):
    i, k, j = data.draw(shapes(3, most=20))
    a, b = data.draw(arrays((i, k))), data.draw(arrays((k, j)))
    rng = np.random.default_rng(1)
    shape = {"number": (), "row": (j,), "column": (i, 1)}[varies]
    epilogue = Epilogue(
        bias=rng.integers(-50, 50, shape),
        scale=rng.integers(1, 64, shape) / 64,  # exact: its multiplier is a power of two
        relu=relu,
        threshold=data.draw(st.sampled_from([0, 3])),
        clamp=data.draw(st.sampled_from([None, (-7, 100), (None, 5), (2, None)])),
        out=data.draw(st.sampled_from(["wide", "narrow"])),
    )
    got = INT8.einsum("ik,kj->ij", sparse(a), sparse(b), order=order, out=out, epilogue=epilogue)
    assert np.array_equal(dense(got), to_int8(a @ b, epilogue, epilogue.narrow))
    if "compressed" in out:
        assert np.all(got.data != 0)


@settings(max_examples=40, deadline=None)
@given(st.data(), ORDERS, OUTS, st.booleans())
def test_bf16(data, order, out, relu):
    i, k, j = data.draw(shapes(3, most=20))
    a, b = data.draw(arrays((i, k))), data.draw(arrays((k, j)))
    bias, scale = np.float32(1.5), np.linspace(0.1, 1.7, j, dtype=np.float32)
    epilogue = Epilogue(bias=bias, scale=scale, relu=relu, clamp=(-20, 90), out="narrow")
    got = BF16.einsum("ik,kj->ij", sparse(a), sparse(b), order=order, out=out, epilogue=epilogue)
    exact = ((a @ b).astype(np.float32) + bias) * scale
    exact = np.clip(np.maximum(exact, 0) if relu else exact, -20, 90)
    expected = Tensor.from_dense(exact, dtype="bf16").to_dense()  # rounds to bf16
    assert np.array_equal(dense(got), expected)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from(["ik", "ki"]), st.sampled_from(["dense", "compressed"]))
def test_a_bias_for_each_element_of_a_vector(data, order, out):
    i, k = data.draw(shapes(2, most=20))
    a, x = data.draw(arrays((i, k))), data.draw(arrays((k,)))
    epilogue = Epilogue(bias=np.arange(i), relu=True)
    got = INT8.einsum("ik,k->i", sparse(a), x, order=order, out=out, epilogue=epilogue)
    assert np.array_equal(dense(got), np.maximum(a @ x + np.arange(i), 0))


@pytest.mark.parametrize("order", ["ikj", "jki"])
@pytest.mark.parametrize("shape", [(16, 0), (0, 16)])
def test_a_result_without_elements_takes_any_bias(order, shape):
    a, b = np.zeros((shape[0], 3)), np.zeros((3, shape[1]))
    for bias in (np.ones((shape[0], 1)), np.ones(shape[1])):
        got = INT8.einsum("ik,kj->ij", a, b, order=order, epilogue=Epilogue(bias=bias))
        assert got.shape == shape


@given(st.lists(st.floats(-(2.0**30), 2.0**30), min_size=1, max_size=5))
def test_multipliers_are_as_exact_as_31_bits_can_be(scales):
    exact = np.array(scales)
    found, shift = multipliers(exact)
    signed = found.view(np.int32)
    assert 0 <= shift <= 62
    for scale, multiplier in zip(scales, signed.tolist(), strict=True):
        assert abs(Fraction(multiplier, 1 << shift) - Fraction(scale)) <= Fraction(1, 2 << shift)
    largest = max(abs(s) for s in scales)
    assert shift == 62 or largest * 2.0 ** (shift + 1) >= 2.0**31 - 1


def test_integers_and_powers_of_two_are_exact():
    for scale in (1, 3, 2.0**-20, 100.5, -7):
        (multiplier,), shift = multipliers(np.array([scale]))
        assert Fraction(int(np.int32(multiplier.view(np.int32))), 1 << shift) == Fraction(scale)


def test_a_zero_that_stays_zero_needs_no_visit():
    assert Epilogue(scale=0.5, relu=True, clamp=(-1, 1), bias=0).keeps_zero
    assert Epilogue(bias=-0.3, relu=True).keeps_zero
    assert Epilogue(bias=-0.3, clamp=(0, 32)).keeps_zero
    assert Epilogue(bias=[-1, 0], scale=[[2], [0]], relu=True).keeps_zero
    assert Epilogue(bias=1, scale=-1, relu=True).keeps_zero
    assert not Epilogue(bias=[-1, 1], relu=True).keeps_zero
    assert not Epilogue(bias=-1, scale=-1, relu=True).keeps_zero
    assert not Epilogue(bias=-0.3, clamp=(-1, 32)).keeps_zero
    assert not Epilogue(bias=-np.inf, scale=0, relu=True).keeps_zero
    assert not Epilogue(bias=np.nan, relu=True).keeps_zero
    assert not Epilogue(bias=[0, 1]).keeps_zero
    assert not Epilogue(clamp=(1, None)).keeps_zero
    assert not Epilogue(clamp=(None, -1)).keeps_zero


def test_errors():
    a = sparse(np.eye(3, 4, dtype=int))
    with pytest.raises(ValueError, match="out='int8': expected wide or narrow"):
        Epilogue(out="int8")
    with pytest.raises(ValueError, match="threshold=-1: expected 0 or more"):
        Epilogue(threshold=-1)
    with pytest.raises(ValueError, match=r"clamp=\(2, 1\): expected low <= high"):
        Epilogue(clamp=(2, 1))

    def run(chip=INT8, **epilogue):
        chip.compute("C[i,j] = A[i,j]", A=a, epilogue=Epilogue(**epilogue))

    with pytest.raises(ValueError, match=r"bias of shape \(3,\): expected one .* \(3, 4\)"):
        run(bias=[1, 2, 3])
    with pytest.raises(ValueError, match="bias varies along i,j"):
        run(bias=np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"bias=0\.5: expected a 32-bit integer"):
        run(bias=0.5)
    with pytest.raises(ValueError, match=r"scale=.*: expected finite numbers below 2\^31"):
        run(scale=2.0**31)
    with pytest.raises(ValueError, match="scale of type complex128"):
        run(BF16, scale=1j)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"bias": 1j}, ValueError, "bias of type complex128: expected real numbers"),
        ({"scale": np.ones(4, complex)}, ValueError, "scale of type complex128"),
        ({"bias": "a"}, ValueError, "bias of type str: expected real numbers"),
        ({"bias": sp.coo_array(np.ones(4))}, ValueError, "bias of type coo_array: expected real"),
        ({"bias": [[1], [2, 3]]}, ValueError, "bias: list whose parts differ in shape"),
        ({"scale": np.ma.array([1, 2], mask=[1, 0])}, ValueError, "scale: masked array with"),
        ({"clamp": ("a", "b")}, TypeError, r"clamp=\('a', 'b'\): expected numbers or None"),
        ({"clamp": 5}, TypeError, r"clamp=5: expected \(low, high\)"),
        ({"clamp": (1, 2, 3)}, ValueError, r"clamp=\(1, 2, 3\): expected \(low, high\)"),
        ({"clamp": (np.nan, None)}, ValueError, "expected low <= high"),
        ({"clamp": (None, 1j)}, TypeError, "expected numbers or None"),
        ({"threshold": "a"}, TypeError, "threshold='a': expected a number"),
        ({"relu": "no"}, TypeError, "relu='no': expected True or False"),
    ],
)
def test_fields_of_another_type(fields, error, message):
    with pytest.raises(error, match=message):
        Epilogue(**fields)


@pytest.mark.parametrize("epilogue", ["relu", 5, {"relu": True}, Epilogue, False])
def test_bad_epilogue_types(epilogue):
    with pytest.raises(TypeError, match=r"^epilogue=.*: expected an Epilogue or None"):
        INT8.compute("y[i] = x[i]", x=np.ones(3), epilogue=epilogue)
    with pytest.raises(TypeError, match=r"^epilogue=.*: expected an Epilogue or None"):
        convolve(INT8, np.ones((3, 3, 1)), np.ones((1, 1, 1, 1)), epilogue=epilogue)
