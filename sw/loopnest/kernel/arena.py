"""The chip's memory as the host lays it out."""

from dataclasses import dataclass

from numpy.typing import NDArray

from loopnest_hw.config import ADDRESS_BITS, LINE_BYTES
from loopnest_hw.format import OPEN_STRIDE
from loopnest_sim.image import Image

from ..formats.tensor import Tensor
from ..memory import written
from ..named import named

DESCRIPTOR = 0x1000
"""Byte address of the first descriptor."""

Levels = tuple[tuple[int, int] | None, ...]
"""Byte addresses of each compressed level's position table and block words."""


def addresses_of(levels: Levels, values: int) -> tuple[int, ...]:
    """Return the byte addresses of a tensor's arrays: each compressed level's table and block
    words, then the values.
    """
    return (*(address for level in levels if level for address in level), values)


@named
@dataclass(frozen=True)
class Placed:
    """A tensor whose place in memory is known before its contents are: the result of a kernel of
    the same list, or what a run writes before the start.

    Attributes
    ----------
    wide : bool
    values : int
        Byte address of its values.
    levels : tuple
        Of its levels.
    sizes : tuple of int
        Bytes of its arrays: of each compressed level's table and block words, then of the values.
    stride : int
        Of its position tables.
    """

    wide: bool
    values: int
    levels: Levels
    sizes: tuple[int, ...]
    stride: int = OPEN_STRIDE

    @property
    def addresses(self) -> tuple[int, ...]:
        """Byte addresses of its arrays."""
        return addresses_of(self.levels, self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays together."""
        return sum(self.sizes)


class Arena:
    """Allocates lines of memory, from ``start`` up."""

    def __init__(self, start: int) -> None:
        self.end = start
        self.segments: list[tuple[int, NDArray]] = []
        self._placed: dict[int, tuple[Tensor, int, Levels]] = {}

    def place(self, tensor: Tensor, name: str) -> tuple[int, Levels]:
        """Allocate an operand's arrays, unless they are in memory; return the addresses of its
        values and of its levels.

        Raises
        ------
        ValueError
            Naming it, if they do not fit.
        """
        if id(tensor) not in self._placed:
            self.check(f"operand {name} of shape {tensor.shape}", tensor.nbytes)
            levels = tuple(
                None if a is None else (self.put(a.table), self.put(a.words)) for a in tensor.arrays
            )
            self._placed[id(tensor)] = tensor, self.put(tensor.values), levels
        return self._placed[id(tensor)][1:]

    def check(self, what: str, nbytes: int) -> None:
        """Refuse what does not fit.

        Raises
        ------
        ValueError
            If it takes more bytes than are left.
        """
        left = (1 << ADDRESS_BITS) - self.end
        if nbytes > left:
            raise ValueError(
                f"{what} takes {written(nbytes)}: {written(left)} of {written(1 << ADDRESS_BITS)}, "
                f"the memory that a chip addresses, are left beside what the kernel has there"
            )

    def reserve(self, nbytes: int) -> int:
        """Allocate ``nbytes`` bytes; return their address.

        Raises
        ------
        ValueError
            If the 32-bit address space is full.
        """
        address = self.end
        self.end = address + -(-nbytes // LINE_BYTES) * LINE_BYTES
        if self.end > 1 << ADDRESS_BITS:
            raise ValueError(
                f"operands and result take {written(self.end)}: expected up to "
                f"{written(1 << ADDRESS_BITS)}, the memory that a chip addresses"
            )
        return address

    def put(self, array: NDArray) -> int:
        """Allocate an array that is written before the start; return its address."""
        address = self.reserve(array.nbytes)
        self.segments.append((address, array))
        return address

    def image(self) -> Image:
        """Return a memory image with the arrays."""
        image = Image()
        for address, array in self.segments:
            image.write(address, array)
        return image
