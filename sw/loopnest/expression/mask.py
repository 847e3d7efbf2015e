"""Masks: the entries that a tensor has, whatever their values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..formats.tensor import Tensor
from .operand import Operand
from .sources import as_source


def mask_operand(name: str, source: Any, dtype: NumberFormat) -> Operand:
    """Return a mask: 1 where a sparse array or a `Tensor` has an entry, whatever its value, or
    where an array is not 0.

    Raises
    ------
    TypeError, ValueError
        As `as_source`, and for a number.
    """
    source = as_source(name, source)
    if not source.shape:
        raise ValueError(f"{name} is a number: expected an array of the result's shape")
    coordinates: Sequence[NDArray[Any]]
    if isinstance(source, Tensor):
        coordinates = source.stored_entries()[0]
    elif sp.issparse(source):
        coordinates = source.tocoo().coords
    else:
        coordinates = np.nonzero(source)
    entries = np.unique(np.stack([np.asarray(c, np.int64) for c in coordinates]), axis=1)
    pattern = sp.coo_array((np.ones(entries.shape[1], np.int8), tuple(entries)), source.shape)
    return Operand(name, pattern, dtype)
