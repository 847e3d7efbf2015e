"""What users give as tensors and numbers, checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from loopnest_hw.config import NumberFormat

from ..formats import numbers
from ..formats.sources import as_array
from ..formats.tensor import Tensor
from .notation import Statement


def as_source(name: str, source: Any) -> Any:
    """Return a `Tensor` unchanged, and anything else as a scipy.sparse array or a NumPy array.

    Raises
    ------
    TypeError, ValueError
        Naming it, for what is not a tensor, an array or a number, or contradicts itself
        (`sources.as_array`).
    """
    if isinstance(source, Tensor):
        return source
    try:
        found = as_array(source)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if not numbers.is_real(found.dtype) and found.dtype.kind != "c":
        raise TypeError(
            f"{name} is {type(source).__name__} of {found.dtype}: expected a "
            f"scipy.sparse array, a NumPy array or a loopnest.Tensor"
        )
    return found


def bound(name: str, tensor: Tensor, dtype: NumberFormat) -> Tensor:
    """Return a tensor in the chip's number format.

    Raises
    ------
    ValueError
        Naming it, if it has another format, or a value that the format can't hold.
    """
    try:
        found = tensor.bound(dtype, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if found.dtype is not dtype:
        assert found.dtype is not None
        raise ValueError(f"{name} is a {found.dtype.value} tensor: expected {dtype.value}")
    return found


def check_real(name: str, source: Any) -> None:
    """Raise TypeError, naming it, for an array with complex values."""
    if numbers.is_real(source.dtype):
        return
    coo = source.tocoo() if sp.issparse(source) else None
    values = source if coo is None else coo.data

    def locate(k: int) -> Sequence[int]:
        at = np.unravel_index(k, source.shape) if coo is None else [c[k] for c in coo.coords]
        return [int(c) for c in at]

    try:
        numbers.check_real(values, locate)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def warn_beyond(name: str, source: Any, dtype: NumberFormat) -> None:
    """Warn of values that the chip stores as infinity (`numbers.warn_beyond`)."""
    if dtype is not NumberFormat.BF16 or isinstance(source, Tensor):
        return
    if not sp.issparse(source):
        numbers.warn_beyond(source, False, lambda k: np.unravel_index(k, source.shape), name)
    elif source.dtype.kind == "f":
        coo = source.tocoo()
        # duplicates are summed
        if numbers.magnitude(coo.data) * coo.nnz >= 2.0**127:
            coo = coo.astype(np.promote_types(coo.dtype, np.float64))
            coo.sum_duplicates()
            numbers.warn_beyond(coo.data, False, lambda k: [c[k] for c in coo.coords], name)


def statement_numbers(statement: Statement, dtype: NumberFormat) -> dict[str, Any]:
    """Return the numbers that stand in a statement, by name.

    Raises
    ------
    ValueError
        For one that an int8 chip can't hold.
    """
    found = {a.name: a.number for a in statement.accesses if a.number is not None}
    for name, number in found.items():
        if dtype is NumberFormat.INT8 and not (number == int(number) and -128 <= number <= 127):
            raise ValueError(f"number {name} in {statement}: expected an integer from -128 to 127")
    return {name: float(number) for name, number in found.items()}
