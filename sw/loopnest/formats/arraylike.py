"""What NumPy's users expect of a tensor: `numpy.asarray`, `len`, ``@`` and more."""

from abc import ABC, abstractmethod
from typing import Any

from numpy.typing import DTypeLike, NDArray

from ..default import default_chip


class ArrayMethods(ABC):
    """A tensor with a shape that can be converted to an array."""

    shape: tuple[int, ...]

    __array_priority__ = 11
    """Above SciPy's: ``array @ tensor`` is the tensor's to compute."""

    @abstractmethod
    def to_dense(self) -> NDArray:
        """Return an array of the tensor's shape; what is not stored is 0."""

    @property
    def ndim(self) -> int:
        """Number of modes."""
        return len(self.shape)

    def toarray(self) -> NDArray:
        """Return an array of the tensor's shape, as `to_dense`."""
        return self.to_dense()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        """Return the tensor for `numpy.asarray`.

        Raises
        ------
        ValueError
            Where no copy is allowed: the values are packed.
        """
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
