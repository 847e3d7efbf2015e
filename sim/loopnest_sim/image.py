"""The chip's memory: bytes at 32-bit addresses, all 0 until written."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ADDRESS_SPACE = 1 << 32


class Image:
    """A byte-addressed memory of 4 GiB, which allocates only up to its highest written address.

    Attributes
    ----------
    extent : int
        First address past all that was ever written.
    """

    def __init__(self) -> None:
        self._bytes: NDArray[np.uint8] = np.zeros(1 << 16, np.uint8)
        self.extent = 0

    def write(self, address: int, data: NDArray[Any] | bytes | bytearray) -> None:
        """Write the data's bytes from ``address`` on.

        Raises
        ------
        ValueError
            If the data extends beyond the address space.
        """
        if isinstance(data, np.ndarray):
            raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        else:
            raw = np.frombuffer(data, np.uint8)
        end = address + len(raw)
        self._reach(address, end)
        self._bytes[address:end] = raw

    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Return a copy of the ``nbytes`` at ``address``."""
        found = np.zeros(nbytes, np.uint8)
        known = self._bytes[address : address + nbytes]
        found[: len(known)] = known
        return found

    def view(self, address: int, count: int, dtype: Any) -> NDArray[Any]:
        """Return a copy of the ``count`` values of ``dtype`` at ``address``."""
        return self.read(address, count * np.dtype(dtype).itemsize).view(dtype)

    def gather(self, addresses: NDArray[Any], dtype: Any) -> NDArray[Any]:
        """Return the value of ``dtype`` at each address, rounded down to a multiple of its size."""
        known = self._bytes.view(dtype)
        index = addresses // known.itemsize
        if len(index) == 0 or int(index.max()) < len(known):
            return known[index]
        inside = index < len(known)
        return np.where(inside, known[np.where(inside, index, 0)], known.dtype.type(0))

    def scatter(self, addresses: NDArray[Any], values: NDArray[Any]) -> None:
        """Write each value to its address, rounded down to a multiple of its size; the last of
        several at one address stays.
        """
        if len(addresses) == 0:
            return
        size = values.dtype.itemsize
        self._reach(int(addresses.min()), int(addresses.max()) + size)
        self._bytes.view(values.dtype)[addresses // size] = values

    def copy(self) -> "Image":
        """Return an independent image with the same bytes."""
        other = Image()
        other.write(0, self._bytes[: self.extent])
        return other

    def _reach(self, address: int, end: int) -> None:
        if not 0 <= address <= end <= ADDRESS_SPACE:
            raise ValueError(f"address {address:#x} to {end:#x}: expected 32-bit addresses")
        if end > len(self._bytes):
            # pages of a fresh mapping are allocated when they are touched
            grown = np.zeros(1 << (end - 1).bit_length(), np.uint8)
            grown[: self.extent] = self._bytes[: self.extent]
            self._bytes = grown
        self.extent = max(self.extent, end)
