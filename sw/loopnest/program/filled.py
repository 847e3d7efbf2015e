"""Tensors without a zero, for runs that show what skipping zeros saves."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..expression.operand import Operand
from ..expression.parser import parse
from ..formats.pack import DENSE
from ..formats.tensor import Levels, Tensor


def filled(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array with its smallest magnitude for each 0."""
    if array.all():
        return array
    magnitudes = np.abs(array[array != 0])
    least = magnitudes.min() if len(magnitudes) else 1
    return np.where(array == 0, least, array).astype(array.dtype)


def filled_source(operand: Operand, kept: Collection[str]) -> Any:
    """Return an operand's tensor, dense and without a zero; the zeros of those ``kept`` stay."""
    source = operand.source
    tensor = isinstance(source, Tensor)
    array = source.to_dense() if tensor else source.toarray() if sp.issparse(source) else source
    array = np.asarray(array)
    array = array if operand.name in kept else filled(array)
    return Tensor.from_dense(array, dtype=operand.dtype, wide=True) if operand.wide else array


def dense_levels(out: Levels | None) -> Levels | None:
    """Return a result's levels, all dense, if they are given."""
    if out is None:
        return None
    return [DENSE] * (len(out.split(",")) if isinstance(out, str) else len(out))


def complements(statements: Sequence[str]) -> set[str]:
    """Return the masks of statements that keep where a mask has no entry: without a zero, such a
    mask leaves nothing to compute.
    """
    masks = (parse(text).mask for text in statements)
    return {mask.access.tensor for mask in masks if mask is not None and mask.complement}
