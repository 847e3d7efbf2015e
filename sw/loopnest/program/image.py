"""A start of the chip as an image of its memory: descriptors and constants, which stay, and regions
for what each run brings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES
from loopnest_hw.format import PACKED_STRIDE, WORD_BYTES

from ..expression.operand import Operand
from ..formats.pack import COMPRESSED, DENSE, spans
from ..formats.tensor import Tensor
from ..kernel.arena import Arena, Placed
from ..kernel.lists import KernelList
from ..kernel.lower import Kernel, without_values
from ..lazy import lazy

Segments = list[tuple[int, NDArray]]
"""Arrays and their byte addresses."""


class RegionFullError(ValueError):
    """A tensor takes more memory than is reserved for it; the message names it."""


@dataclass(frozen=True, eq=False)
class Packed:
    """An operand in the form in which kernels read it, where none of them computes it.

    Attributes
    ----------
    operand : Operand
        What the plans know it by.
    shape : tuple of int
        Of what is packed: of a view, that of the tensor that is viewed.
    levels, mode_order : tuple
        How it is packed, with position tables of stride 2.
    wide : bool
    neutral : int or None
        Of a mask, the word that stands for its values.
    entries : int
        The number of stored entries up to which it is sure to fit.
    default : Tensor or None
        The tensor in runs that do not bring another one; None if each run computes it.
    """

    operand: Operand
    shape: tuple[int, ...]
    levels: tuple[str, ...]
    mode_order: tuple[int, ...]
    wide: bool
    neutral: int | None
    entries: int
    default: Tensor | None

    @property
    def key(self) -> tuple[object, ...]:
        """What those have in common that can share a place in memory."""
        return self.operand.identity, self.levels, self.mode_order, self.neutral

    def pack(self, operand: Operand) -> Tensor:
        """Return what stands for the operand in a run as kernels read it."""
        tensor = operand.packed(self.levels, self.mode_order)
        if all(level is None or level.stride == PACKED_STRIDE for level in tensor.arrays):
            return tensor
        by_mode, stored = tensor.stored_entries()
        return Tensor.from_stored(
            tensor.shape, self.levels, by_mode, stored,
            dtype=tensor.dtype, wide=tensor.wide, mode_order=self.mode_order,
        )  # fmt: skip

    def arrays(self, tensor: Tensor) -> list[NDArray]:
        """Return what is in memory of a tensor: the table and the block words of each compressed
        level, and the values.
        """
        found = [array for level in tensor.arrays if level for array in (level.table, level.words)]
        if self.neutral is None:
            return [*found, tensor.values]
        last = tensor.arrays[-1]
        assert last is not None
        found[-2] = without_values(last)
        return [*found, np.array([self.neutral], np.uint32)]

    def capacities(self, value_bytes: int) -> list[int]:
        """Return the maximum bytes of these arrays."""
        sizes = [self.shape[mode] for mode in self.mode_order]
        span = spans(sizes, self.levels)
        found, nodes = [], 1
        for level, (size, kind) in enumerate(zip(sizes, self.levels, strict=True)):
            if kind == DENSE:
                nodes *= size
                continue
            below = min(nodes * size, -(-self.entries // max(1, span[level + 1])))
            words = min(nodes * -(-size // LANES), below)
            found += [(PACKED_STRIDE * nodes + 1) * WORD_BYTES, words * WORD_BYTES]
            nodes = below
        return [*found, nodes * value_bytes if self.neutral is None else WORD_BYTES]


@dataclass(frozen=True, eq=False)
class Region(Packed):
    """Its place in memory."""

    placed: Placed

    def segments(self, tensor: Tensor) -> Segments:
        """Return a tensor's arrays and their addresses.

        Raises
        ------
        RegionFullError
            If they are too large.
        """
        return self._of_default if tensor is self.default else self._segments(tensor)

    @lazy
    def _of_default(self) -> Segments:
        assert self.default is not None
        return self._segments(self.default)

    def _segments(self, tensor: Tensor) -> Segments:
        arrays = self.arrays(tensor)
        for array, most in zip(arrays, self.placed.sizes, strict=True):
            if array.nbytes > most:
                raise RegionFullError(
                    f"{self.operand.name} has too many entries: {array.nbytes:,} bytes where "
                    f"{most:,} are reserved; expected up to {self.entries:,} entries"
                )
        return list(zip(self.placed.addresses, arrays, strict=True))


@dataclass(frozen=True, eq=False)
class Image:
    """Kernels in memory, and the regions of their operands.

    Attributes
    ----------
    kernels : tuple of Kernel
    columns : tuple of (tuple of int or None)
        The region of each operand of each kernel; None for the result of a kernel before it.
    regions : tuple of Region
    constants : list of (address, array)
        What is in memory besides the regions' tensors, the descriptors first.
    end : int
        First byte address behind everything.
    """

    kernels: tuple[Kernel, ...]
    columns: tuple[tuple[int | None, ...], ...]
    regions: tuple[Region, ...]
    constants: Segments
    end: int

    @property
    def start(self) -> int:
        """Byte address of the first descriptor."""
        return self.constants[0][0]

    def holding(self, tensors: Sequence[Tensor]) -> KernelList:
        """Return the kernels, to run with these tensors in the regions.

        Raises
        ------
        RegionFullError
            If one does not fit.
        """
        segments = list(self.constants)
        for region, tensor in zip(self.regions, tensors, strict=True):
            segments += region.segments(tensor)
        kernels = tuple(
            replace(
                kernel,
                tensors=tuple(
                    placed if number is None else tensors[number]
                    for placed, number in zip(kernel.tensors, columns, strict=True)
                ),
            )
            for kernel, columns in zip(self.kernels, self.columns, strict=True)
        )
        return KernelList(kernels, segments, self.start, image=self)


def place(arena: Arena, packed: Packed, value_bytes: int, tensors: Sequence[Tensor]) -> Region:
    """Allocate the region of an operand, for what it is sure to take and for these tensors."""
    sizes = packed.capacities(value_bytes)
    for tensor in tensors:
        sizes = [max(n, a.nbytes) for n, a in zip(sizes, packed.arrays(tensor), strict=True)]
    arena.check(f"operand {packed.operand.name} of shape {packed.shape}", sum(sizes))
    at = iter([arena.reserve(nbytes) for nbytes in sizes])
    levels = tuple((next(at), next(at)) if kind == COMPRESSED else None for kind in packed.levels)
    wide = packed.wide or packed.neutral is not None
    placed = Placed(wide, next(at), levels, tuple(sizes), PACKED_STRIDE)
    return Region(**vars(packed), placed=placed)
