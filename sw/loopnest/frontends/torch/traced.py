"""Tensors of a traced program, and their types in NumPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...formats.libraries import from_torch


@dataclass(frozen=True, eq=False)
class Traced:
    """A tensor of the traced program.

    Attributes
    ----------
    shape : tuple of int
    dtype : torch.dtype
        Its type in PyTorch; `numpy_dtype` gives that in the graph.
    name : str or None
        Its name in the graph; None for a known tensor that no node has used.
    value : array or None
        The elements of a known tensor: an array of NumPy, or a sparse one of SciPy.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    name: str | None = None
    value: Any = None

    @property
    def known(self) -> bool:
        """Whether its elements are constants."""
        return self.value is not None

    @property
    def ndim(self) -> int:
        """The number of its dimensions."""
        return len(self.shape)

    def axis(self, dim: int) -> int:
        """Return a dimension counted from the first one."""
        return dim % max(self.ndim, 1)

    def axes(self, dims: Any) -> tuple[int, ...]:
        """Return dimensions counted from the first one: all, where none are given."""
        if dims is None or (not isinstance(dims, int) and not len(dims)):
            return tuple(range(self.ndim))
        return tuple(self.axis(d) for d in ([dims] if isinstance(dims, int) else dims))


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return a type of PyTorch as it is in graphs: 16-bit floats are float32 there."""
    if dtype.is_floating_point and dtype.itemsize < 4:
        return np.dtype(np.float32)
    return np.dtype(str(dtype).removeprefix("torch."))


def as_array(tensor: torch.Tensor) -> Any:
    """Return a tensor as an array of NumPy, or a sparse matrix as one of SciPy."""
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize < 4:
        tensor = tensor.detach().float()
    if tensor.layout != torch.strided and (tensor.ndim != 2 or tensor.dense_dim()):
        tensor = tensor.to_dense()
    return from_torch(tensor)


def as_tensor(array: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return an array as a dense tensor of PyTorch."""
    array = np.asarray(array.toarray() if hasattr(array, "toarray") else array)
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()
    return torch.from_numpy(array).to(dtype)
