"""Any array as a tensor of a chip's number format."""

from collections.abc import Sequence
from typing import Any

import scipy.sparse as sp

from loopnest_hw.config import NumberFormat

from .levels import Levels
from .sources import as_array
from .tensor import Tensor


def make_tensor(
    source: Any,
    dtype: NumberFormat,
    *,
    levels: Levels | None = None,
    mode_order: Sequence[int] | None = None,
    wide: bool = False,
) -> Tensor:
    """Pack an array, a sparse array of any library, or a `Tensor`.

    Parameters
    ----------
    levels : str or sequence of str, optional
        By default those of `Tensor.from_dense` and `Tensor.from_coo`, or those of the `Tensor`.

    Raises
    ------
    ValueError
        For a value that the format can't hold, levels that do not fit, or a `Tensor` that has
        another format or width.
    TypeError
        For what is not an array of real numbers.
    """
    if not isinstance(source, Tensor):
        array = as_array(source)
        make = Tensor.from_scipy if sp.issparse(array) else Tensor.from_dense
        return make(array, levels=levels, dtype=dtype, mode_order=mode_order, wide=wide)
    tensor = source.bound(dtype)
    for name, own, asked in (("dtype", tensor.dtype, dtype), ("wide", tensor.wide, wide)):
        if own != asked and (name != "wide" or asked):
            raise ValueError(f"{source!r}: expected {name}={asked!r}")
    if levels is None and mode_order is None:
        return tensor
    return tensor.convert(
        tensor.levels if levels is None else levels,
        tensor.mode_order if mode_order is None else mode_order,
    )
