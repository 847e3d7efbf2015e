"""What NumPy's users expect of a tensor: `numpy.asarray`, `len`, ``@`` and more.

Python asks the left side of ``array @ tensor`` first. NumPy's and PyTorch's arrays leave it to the
tensor. Those of SciPy, pydata/sparse and pandas convert the tensor and compute on the host, without
asking: a tensor recognises their product's function when it is converted in there.
"""

import sys
from abc import ABC, abstractmethod
from math import prod
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..default import default_chip


class ArrayMethods(ABC):
    """A tensor with a shape that can be converted to an array."""

    shape: tuple[int, ...]

    __array_priority__ = 11
    """Above that of NumPy's arrays: they leave ``array @ tensor`` to `__rmatmul__`."""

    @abstractmethod
    def to_dense(self) -> NDArray:
        """Return an array of the tensor's shape; what is not stored is 0."""

    @property
    def ndim(self) -> int:
        """Number of modes.

        Raises
        ------
        NotImplementedError
            Inside ``array @ tensor`` of pydata/sparse, which then leaves it to `__rmatmul__`.
        """
        if _is_in(sys._getframe(1), "sparse", "matmul"):
            raise NotImplementedError("sparse.matmul of a Tensor: expected chip.matmul")
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements, stored or not."""
        return prod(self.shape)

    def toarray(self) -> NDArray:
        """Return an array of the tensor's shape, as `to_dense`."""
        return self.to_dense()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        """Return the tensor for `numpy.asarray`.

        Raises
        ------
        ValueError
            Where no copy is allowed: the values are packed.
        TypeError
            Inside ``frame @ tensor`` of pandas, which would compute it on the host.
        """
        caller = sys._getframe(1)
        if _is_in(caller, "scipy.sparse", "_matmul_dispatch"):
            # ``matrix @ tensor``: what is not an array, SciPy leaves to `__rmatmul__`
            return _object(self)
        if _is_in(caller, "pandas", "dot"):
            raise TypeError("@ of pandas and a Tensor: expected chip.matmul(frame, tensor)")
        if copy is False:
            raise ValueError("copy=False: a tensor is unpacked into a new array")
        array = self.to_dense()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a tensor of order 0")
        return self.shape[0]

    def __bool__(self) -> bool:
        if any(n != 1 for n in self.shape):
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous")
        return bool(self.to_dense().reshape(())[()])

    def __matmul__(self, other: Any) -> Any:
        """Return the product, computed by the default chip (`loopnest.set_default_chip`)."""
        return default_chip().matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return default_chip().matmul(other, self)


def _is_in(frame: FrameType, package: str, function: str) -> bool:
    """Return whether a frame is in a function of this name in a package."""
    module = str(frame.f_globals.get("__name__", ""))
    return frame.f_code.co_name == function and f"{module}.".startswith(f"{package}.")


def _object(item: Any) -> NDArray:
    """Return an array of order 0 with an object."""
    array = np.empty((), object)
    array[()] = item
    return array
