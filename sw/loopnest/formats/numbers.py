"""Numbers as the chip stores them: int8/int32 or bf16/fp32, from and to NumPy arrays.

A bf16 chip's narrow values are 16 bits (`uint16`), its wide ones `float32`; an int8 chip's are
`int8` and `int32`. Rounding to bf16 is to nearest even, once, from whatever precision comes in. A
magnitude below 2^-126 becomes a zero of its sign, and every NaN the one canonical NaN, as in the
chip's arithmetic.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import NumberFormat

CANONICAL_NAN = np.uint32(0x7FC0_0000)
SMALLEST_NORMAL = 2.0**-126

Locate = Callable[[int], Sequence[int]]
"""Returns the index of the k-th value, for error messages."""


def number_format(dtype: str | NumberFormat) -> NumberFormat:
    """Return the format named ``dtype``; ValueError if there is none."""
    try:
        return NumberFormat(dtype)
    except ValueError:
        expected = ", ".join(f.value for f in NumberFormat)
        raise ValueError(f"dtype {dtype!r}: expected one of {expected}") from None


def storage_dtype(dtype: NumberFormat, wide: bool) -> np.dtype:
    """Return the NumPy type that stored values have."""
    if dtype is NumberFormat.INT8:
        return np.dtype(np.int32 if wide else np.int8)
    return np.dtype(np.float32 if wide else np.uint16)


def is_real(dtype: np.dtype) -> bool:
    """Return whether a NumPy type is one of real numbers."""
    return dtype.kind in "biuf" or dtype.name == "bfloat16"


def check_real(values: NDArray, locate: Locate) -> None:
    """Refuse complex numbers and what is no number.

    Raises
    ------
    TypeError
        Quoting the first value.
    """
    if not is_real(values.dtype):
        first = f", first {values.flat[0]!r} at {_index(locate, 0)}" if values.size else ""
        raise TypeError(f"values of type {values.dtype}{first}: expected real numbers")


def summable(values: ArrayLike, locate: Locate) -> NDArray:
    """Return values as int64 or float64, in which duplicates are summed.

    Raises
    ------
    TypeError
        For complex numbers and for what is no number; the message quotes the first value.
    """
    array = np.asarray(values)
    if array.dtype.kind in "biu" and array.dtype != np.uint64:
        return array.astype(np.int64)
    if array.size == 0 and array.dtype.kind != "c":
        return array.reshape(-1).astype(np.float64)
    check_real(array, locate)
    return array.astype(np.float64)


def encode(values: NDArray, dtype: NumberFormat, wide: bool, locate: Locate) -> NDArray:
    """Return int64 or float64 values in the chip's storage type.

    Raises
    ------
    ValueError
        On an int8 chip, for a value that is no integer or does not fit; the message names the
        value and its index.
    """
    if dtype is NumberFormat.INT8:
        kind = storage_dtype(dtype, wide)
        limits = np.iinfo(kind)
        good = (values >= limits.min) & (values <= limits.max)
        if values.dtype.kind == "f":
            good &= values == np.floor(values)
        if not good.all():
            k = int(np.argmin(good))
            raise ValueError(
                f"value {values[k]} at {_index(locate, k)}: "
                f"expected an integer from {limits.min} to {limits.max}"
            )
        return values.astype(kind)
    bits = _fp32_bits(values, odd=not wide)
    if wide:
        return bits.view(np.float32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    narrow = np.where(np.isnan(values), CANONICAL_NAN, rounded) >> np.uint32(16)
    return narrow.astype(np.uint16)


def decode(stored: NDArray) -> NDArray:
    """Return stored values as numbers: float32 for bf16 and fp32, int8 and int32 as they are."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored


def _fp32_bits(values: NDArray, odd: bool) -> NDArray[np.uint32]:
    """Return the bits of values as fp32, subnormals flushed, NaN canonical.

    ``odd``: rounded to odd, so that a second rounding to fewer bits acts on the exact value:
    an inexact value is cut towards zero and gets its lowest bit set.
    """
    exact = values.astype(np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest = exact.astype(np.float32)
        bits = nearest.view(np.uint32)
        if odd:
            away = np.abs(nearest.astype(np.float64)) > np.abs(exact)
            inexact = nearest.astype(np.float64) != exact
            bits = (bits - away.astype(np.uint32)) | inexact.astype(np.uint32)
        bits = np.where(np.abs(exact) < SMALLEST_NORMAL, bits & np.uint32(1 << 31), bits)
        return np.where(np.isnan(exact), CANONICAL_NAN, bits).astype(np.uint32)


def _index(locate: Locate, k: int) -> str:
    return "(" + ", ".join(str(int(i)) for i in locate(k)) + ")"
