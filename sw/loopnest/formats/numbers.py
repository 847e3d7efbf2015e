"""Numbers as the chip stores them: int8/int32 or bf16/fp32, from and to NumPy arrays.

A bf16 chip's narrow values are 16 bits (`uint16`), its wide ones `float32`; an int8 chip's are
`int8` and `int32`. Rounding to bf16 is to nearest even, once, from whatever type comes in. A
magnitude below 2^-126 becomes a zero of its sign, one beyond the format's range an infinity (with a
warning), and every NaN the one canonical NaN, as in the chip's arithmetic.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from typing import SupportsInt, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import NumberFormat

CANONICAL_NAN = np.uint32(0x7FC0_0000)
SMALLEST_NORMAL = 2.0**-126

STICKY_BITS = 12
"""Low bits of a 64-bit integer that only matter for rounding by whether they are 0."""

T = TypeVar("T")

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)

Locate = Callable[[int], Sequence[SupportsInt]]
"""Returns the index of the k-th value, for error messages."""


def number_format(dtype: str | NumberFormat) -> NumberFormat:
    """Return the format named ``dtype``; ValueError if there is none."""
    try:
        return NumberFormat(dtype)
    except ValueError:
        expected = ", ".join(f.value for f in NumberFormat)
        raise ValueError(f"dtype {dtype!r}: expected one of {expected}") from None


def storage_dtype(dtype: NumberFormat, wide: bool) -> np.dtype:
    """Return the NumPy type of stored values."""
    if dtype is NumberFormat.INT8:
        return np.dtype(np.int32 if wide else np.int8)
    return np.dtype(np.float32 if wide else np.uint16)


def is_real(dtype: np.dtype) -> bool:
    """Return whether a NumPy type is one of real numbers."""
    return dtype.kind in "biuf" or dtype.name == "bfloat16"


def check_real(values: NDArray, locate: Locate) -> None:
    """Refuse complex numbers and values that are not numbers.

    Raises
    ------
    TypeError
        Quoting the first value.
    """
    if not is_real(values.dtype):
        first = ""
        if values.size:
            shown = " ".join(repr(values.reshape(-1)[:1].tolist()[0]).split())[:60]
            first = f", first {shown}{_place(locate, 0)}"
        raise TypeError(f"values of type {values.dtype}{first}: expected real numbers")


def summable(values: ArrayLike, locate: Locate) -> NDArray:
    """Return values as int64, uint64, float64 or longdouble, in which duplicates are summed.

    Raises
    ------
    TypeError
        For complex numbers and values that are not numbers; the message quotes the first one.
    """
    array = np.asarray(values)
    if array.size == 0 and array.dtype.kind != "c":
        return array.reshape(-1).astype(np.float64)
    check_real(array, locate)
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        small = array.max() <= np.iinfo(np.int64).max
        return array.astype(np.int64 if small else np.uint64)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    wider = array.dtype.kind == "f" and array.dtype.itemsize > 8
    return array.astype(np.longdouble if wider else np.float64)


def sum_runs(values: NDArray, starts: NDArray[np.int64]) -> NDArray:
    """Return the sums of summable values from each start to the next.

    Raises
    ------
    ValueError
        For a sum of integers that does not fit 64 bits.
    """
    sums = np.add.reduceat(values, starts)
    if values.dtype.kind in "iu":
        near = np.add.reduceat(values.astype(np.float64), starts)
        wrong = np.abs(near - sums) > 2.0**62
        if wrong.any():
            raise ValueError(f"duplicates with a sum of {near[wrong][0]:g}: expected 64 bits")
    return sums


def encode(
    values: NDArray, dtype: NumberFormat, wide: bool, locate: Locate, what: str = ""
) -> NDArray:
    """Return summable values in the chip's storage type. ``what`` is their name for the warning.

    Raises
    ------
    ValueError
        On an int8 chip, for a value that is not an integer or does not fit; the message gives the
        value and its index.

    Warns
    -----
    RuntimeWarning
        On a bf16 chip, as `warn_beyond`.
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
                f"value {values[k]}{_place(locate, k)}: "
                f"expected an integer from {limits.min} to {limits.max}"
            )
        return values.astype(kind)
    warn_beyond(values, wide, locate, what)
    bits = _fp32_bits(values, odd=not wide)
    if wide:
        return bits.view(np.float32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    narrow = np.where(np.isnan(values), CANONICAL_NAN, rounded) >> np.uint32(16)
    return narrow.astype(np.uint16)


def magnitude(values: NDArray) -> float:
    """Return the largest magnitude of floating-point values; NaN do not count, infinities do."""
    if not values.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        largest, least = (f.reduce(values, axis=None) for f in (np.fmax, np.fmin))
    return float(np.fmax(largest, -least))


def warn_beyond(values: NDArray, wide: bool, locate: Locate, what: str = "") -> None:
    """Warn of finite values that a bf16 chip stores as infinity, with the first one's index.

    Parameters
    ----------
    what : str
        Name of the array, as a prefix of the message.
    """
    if _quiet.get() or values.dtype.kind != "f" or values.dtype.itemsize < 4:
        return
    # from here on, values round to the next power of two
    limit = (2 - 2.0 ** (-24 if wide else -8)) * 2.0**127
    if magnitude(values) < limit:
        return
    flat = values.reshape(-1)
    beyond = np.flatnonzero((np.abs(flat) >= limit) & np.isfinite(flat))
    if len(beyond):
        first = int(beyond[0])
        more = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        _warn(
            f"{what}{': ' * bool(what)}value {flat[first]}{_place(locate, first)}{more}: "
            f"beyond the range of {'fp32' if wide else 'bf16'}, stored as infinity"
        )


def without_warnings(work: Callable[[], T]) -> T:
    """Call without warnings for values that have been warned of already.

    The call has a context of its own, which ends with it: an interrupt at any point leaves warnings
    as they were.
    """

    def quiet() -> T:
        _quiet.set(True)
        return work()

    return copy_context().run(quiet)


def _warn(text: str) -> None:
    """Warn, with the position of the caller of this package."""
    frame, level = sys._getframe(1), 2
    package = __name__.partition(".")[0]
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, RuntimeWarning, stacklevel=level)


def decode(stored: NDArray) -> NDArray:
    """Return stored values as numbers: float32 for bf16 and fp32, int8 and int32 as they are."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored


def to_float64(values: NDArray) -> NDArray[np.float64]:
    """Return values as float64 that round to 40 bits or fewer like the values themselves.

    Values that float64 cannot represent are rounded to odd: truncated towards zero, with the lowest
    bit set.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        mask = values.dtype.type((1 << STICKY_BITS) - 1)
        low = values & mask
        sticky = (values - low) | np.where(low != 0, (mask >> 1) + 1, 0).astype(values.dtype)
        large = values >= 1 << 53
        if values.dtype.kind == "i":
            large |= values <= -(1 << 53)
        return np.where(large, sticky, values).astype(np.float64)
    if values.dtype.kind != "f" or values.dtype.itemsize <= 8:
        return values.astype(np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _odd(values, values.astype(np.float64), np.uint64).view(np.float64)


def _odd(exact: NDArray, nearest: NDArray, bits: type[np.uint32] | type[np.uint64]) -> NDArray:
    """Return the bits of the values that are nearest to exact ones, with these rounded to odd."""
    inexact = nearest.astype(exact.dtype) != exact
    if not inexact.any():
        return nearest.view(bits)
    away = np.abs(nearest.astype(exact.dtype)) > np.abs(exact)
    return (nearest.view(bits) - away.astype(bits)) | inexact.astype(bits)


def _fp32_bits(values: NDArray, odd: bool) -> NDArray[np.uint32]:
    """Return the bits of values as fp32, subnormals flushed, NaN canonical.

    ``odd``: rounded to odd, so that a second rounding to fewer bits acts on the exact value.
    """
    exact = to_float64(values)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest = exact.astype(np.float32)
        bits = _odd(exact, nearest, np.uint32) if odd else nearest.view(np.uint32)
        bits = np.where(np.abs(exact) < SMALLEST_NORMAL, bits & np.uint32(1 << 31), bits)
        return np.where(np.isnan(exact), CANONICAL_NAN, bits).astype(np.uint32)


def _place(locate: Locate, k: int) -> str:
    """Return where the k-th value is, for a message; nothing for a number."""
    index = locate(k)
    return f" at ({', '.join(str(int(i)) for i in index)})" if len(index) else ""
