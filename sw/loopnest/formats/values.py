"""Values of a tensor, in a chip's number format or as they are before a chip binds it."""

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from . import numbers


def number_format(dtype: str | NumberFormat | None) -> NumberFormat | None:
    """Return the format named ``dtype``, or None; ValueError if there is none."""
    return None if dtype is None else numbers.number_format(dtype)


def storage_dtypes(dtype: NumberFormat | None, wide: bool) -> list[np.dtype]:
    """Return the NumPy types that stored values may have."""
    if dtype is None:
        return [np.dtype(kind) for kind in (np.int64, np.float64, np.uint64, np.longdouble)]
    return [numbers.storage_dtype(dtype, wide)]


def value_bytes(dtype: NumberFormat | None, wide: bool) -> int:
    """Return the bytes of a value in the chip's memory, without a format on a bf16 chip."""
    return numbers.storage_dtype(dtype or NumberFormat.BF16, wide).itemsize


def encode(
    values: NDArray, dtype: NumberFormat | None, wide: bool, locate: numbers.Locate
) -> NDArray:
    """Return summable values in the chip's storage type, or as they are without a format."""
    return values if dtype is None else numbers.encode(values, dtype, wide, locate)
