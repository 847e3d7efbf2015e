"""Lists of kernels, which the chip runs one after the other in one start."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import descriptor_lines, pack
from loopnest_hw.format import ENTRY_BYTES, WORD_BYTES

from ..epilogue import Epilogue
from ..formats.tensor import Tensor
from ..loops.plan import Plan
from .lower import DESCRIPTOR, Arena, Kernel, Listed, Placed, lower, value_bytes


@dataclass(frozen=True)
class KernelList:
    """Kernels in memory, whose descriptors follow each other from ``descriptor`` on.

    ``segments`` are what is written before the start.
    """

    kernels: tuple[Kernel, ...]
    segments: Sequence[tuple[int, NDArray]]
    descriptor: int = DESCRIPTOR

    @property
    def budget(self) -> int:
        """Cycles that they may take."""
        return sum(kernel.fields["budget"] for kernel in self.kernels)


@dataclass(frozen=True)
class Ready:
    """A kernel that can be placed in a list.

    Attributes
    ----------
    operands : tuple of Tensor or int
        The packed operands by column; a number is that of the kernel in the list whose result it
        is.
    sample : tuple of Tensor
        The operands, with what is expected of those that are not computed yet.
    """

    plan: Plan
    epilogue: Epilogue | None
    operands: tuple[Tensor | int, ...]
    sample: tuple[Tensor, ...]


def single(kernel: Kernel) -> KernelList:
    """Return the list of one kernel."""
    return KernelList((kernel,), kernel.segments, kernel.descriptor)


def lower_list(config: ChipConfig, kernels: Sequence[Ready]) -> KernelList:
    """Lay out memory for several kernels, and fill in their descriptors.

    Raises
    ------
    ValueError
        As `lower`.
    """
    size = descriptor_lines(config) * LINE_BYTES
    arena = Arena(DESCRIPTOR + len(kernels) * size)
    placed: list[Placed] = []
    lowered: list[Kernel] = []
    for n, ready in enumerate(kernels):
        copies = lower(config, ready.plan, ready.sample, epilogue=ready.epilogue).fields["copies"]
        operands = tuple(placed[o] if isinstance(o, int) else o for o in ready.operands)
        listed = Listed(arena, n == len(kernels) - 1, copies)
        kernel = lower(config, ready.plan, operands, epilogue=ready.epilogue, listed=listed)
        lowered.append(kernel)
        placed.append(_result(config, kernel))
    descriptors = np.concatenate([pack(config, kernel.fields) for kernel in lowered])
    return KernelList(tuple(lowered), [(DESCRIPTOR, descriptors), *arena.segments])


def region_bytes(config: ChipConfig, plan: Plan, epilogue: Epilogue | None) -> int:
    """Return the bytes that are reserved for a kernel's result, whatever it turns out to be."""
    result = plan.result
    narrow = epilogue is not None and epilogue.narrow
    entry = value_bytes(config.dtype, narrow) + (WORD_BYTES if result.compressed else 0)
    table = result.fibers * ENTRY_BYTES if result.compressed else 0
    return table + result.fibers * result.span * entry


def _result(config: ChipConfig, kernel: Kernel) -> Placed:
    """Return a kernel's result as an operand of those after it."""
    fields, result = kernel.fields, kernel.plan.result
    levels: list[tuple[int, int] | None] = [None] * len(kernel.plan.statement.result.indices)
    nbytes = fields["result.values_end"] - fields["result.values"]
    if result.compressed:
        levels[-1] = fields["result.table"], fields["result.blocks"]
        for region in ("table", "blocks"):
            nbytes += fields[f"result.{region}_end"] - fields[f"result.{region}"]
    return Placed(not kernel.narrow, fields["result.values"], tuple(levels), nbytes)
