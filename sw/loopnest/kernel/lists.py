"""Lists of kernels, which the chip runs one after the other in one start."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import descriptor_lines, pack

from ..epilogue import Epilogue
from ..expression.difference import DENSER
from ..formats.tensor import Tensor
from ..loops.plan import Plan
from .arena import DESCRIPTOR, Arena, Placed
from .lifetimes import Block, overlay
from .lower import BUDGET, MAX_BUDGET, Kernel, Listed, lower, region_sizes

MARGIN = DENSER**2
"""Factor on the expected steps of a kernel for its budget: two operands may both be denser than the
sample."""


@dataclass(frozen=True)
class KernelList:
    """Kernels in memory, whose descriptors follow each other from ``descriptor`` on.

    ``segments`` are what is in memory at the start. Where there is an ``image``, no kernel changes
    them: those of the same image that are there already, as the same arrays, need not be written
    again.
    """

    kernels: tuple[Kernel, ...]
    segments: Sequence[tuple[int, NDArray]]
    descriptor: int = DESCRIPTOR
    image: object | None = None

    @property
    def budget(self) -> int:
        """Cycles that they may take."""
        return sum(kernel.fields["budget"] for kernel in self.kernels)


@dataclass(frozen=True)
class Sampled:
    """The descriptor's ``copies`` and ``budget``, as a sample of the operands tells them."""

    copies: int
    budget: int


@dataclass(frozen=True)
class Ready:
    """A kernel that can be placed in a list.

    Attributes
    ----------
    operands : tuple of Placed or int
        By column; a number is that of the kernel in the list whose result it is.
    sampled : Sampled
    base : Placed, int or None
        Likewise the tensor of which the result is a part: it is written there.
    skipped : int
        Bytes of the other kernel's result in front of that tensor.
    """

    plan: Plan
    epilogue: Epilogue | None
    operands: tuple[Placed | int, ...]
    sampled: Sampled
    base: Placed | int | None = None
    skipped: int = 0


def single(kernel: Kernel) -> KernelList:
    """Return the list of one kernel."""
    return KernelList((kernel,), kernel.segments, kernel.descriptor)


def sample(
    config: ChipConfig, plan: Plan, epilogue: Epilogue | None, operands: Sequence[Tensor]
) -> Sampled:
    """Return what these operands tell of a kernel."""
    fields = lower(config, plan, tuple(operands), epilogue=epilogue).fields
    budget = BUDGET + MARGIN * (fields["budget"] - BUDGET)
    return Sampled(fields["copies"], min(MAX_BUDGET, budget))


def list_arena(config: ChipConfig, kernels: int) -> Arena:
    """Return the memory behind the descriptors of this number of kernels."""
    return Arena(DESCRIPTOR + kernels * descriptor_lines(config) * LINE_BYTES)


def lower_list(
    config: ChipConfig, kernels: Sequence[Ready], arena: Arena, kept: Collection[int]
) -> tuple[tuple[Kernel, ...], NDArray]:
    """Lay out memory for several kernels, and fill in their descriptors. The memory of a result
    that no later kernel reads is used again.

    Parameters
    ----------
    arena : Arena
        The memory (`list_arena`), with the operands that no kernel of the list computes.
    kept : collection of int
        The kernels whose results stay to the end of the list.

    Returns
    -------
    kernels : tuple of Kernel
    descriptors : NDArray
        What belongs at `DESCRIPTOR`.

    Raises
    ------
    ValueError
        As `lower`.
    """
    last = list(range(len(kernels)))
    for n, ready in enumerate(kernels):
        for operand in ready.operands:
            if isinstance(operand, int):
                last[operand] = n
    for n, ready in reversed(list(enumerate(kernels))):
        last[n] = len(kernels) if n in kept else last[n]
        if isinstance(ready.base, int):
            last[ready.base] = max(last[ready.base], last[n])
    own = [n for n, ready in enumerate(kernels) if ready.base is None]
    blocks = [
        Block(region_bytes(config, kernels[n].plan, kernels[n].epilogue), n, last[n]) for n in own
    ]
    offsets, nbytes = overlay(blocks)
    first = arena.reserve(nbytes)
    results = {n: first + offset for n, offset in zip(own, offsets, strict=True)}
    placed: list[Placed] = []
    lowered: list[Kernel] = []
    for n, ready in enumerate(kernels):
        operands = tuple(placed[o] if isinstance(o, int) else o for o in ready.operands)
        base, is_last = ready.base, n == len(kernels) - 1
        if base is not None:
            whole = results[base] if isinstance(base, int) else base.values
            results[n] = whole + ready.skipped
        copies, budget = ready.sampled.copies, ready.sampled.budget
        listed = Listed(arena, results[n], is_last, copies, budget, base is not None)
        kernel = lower(config, ready.plan, operands, epilogue=ready.epilogue, listed=listed)
        lowered.append(kernel)
        placed.append(_result(config, kernel))
    return tuple(lowered), np.concatenate([pack(config, kernel.fields) for kernel in lowered])


def region_bytes(config: ChipConfig, plan: Plan, epilogue: Epilogue | None) -> int:
    """Return the bytes that are reserved for a kernel's result, whatever it turns out to be."""
    narrow = epilogue is not None and epilogue.narrow
    sizes = region_sizes(config, plan, narrow).values()
    return sum(-(-nbytes // LINE_BYTES) * LINE_BYTES for nbytes in sizes)


def _result(config: ChipConfig, kernel: Kernel) -> Placed:
    """Return a kernel's result as an operand of those after it."""
    fields, result = kernel.fields, kernel.plan.result
    rank = len(kernel.plan.statement.result.indices if result.part is None else result.part.shape)
    levels: list[tuple[int, int] | None] = [None] * rank
    regions = ["values"]
    if result.compressed:
        levels[-1] = fields["result.table"], fields["result.blocks"]
        regions = ["table", "blocks", "values"]
    sizes = tuple(fields[f"result.{r}_end"] - fields[f"result.{r}"] for r in regions)
    return Placed(not kernel.narrow, fields["result.values"], tuple(levels), sizes)
