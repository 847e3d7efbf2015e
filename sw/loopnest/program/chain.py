"""Chains: kernels of a program that run in one start, since each finds its operands in the chip's
memory: packed by the host before the start, or written by a kernel before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loopnest_hw.config import ChipConfig

from ..expression.operand import Operand
from ..expression.stored import Stored
from ..expression.view import View
from ..formats import numbers
from ..formats.tensor import Tensor
from ..kernel.lists import Ready, bounded
from .steps import KernelStep, Step

Resolve = Callable[[Operand], Operand]
"""Returns what an operand of the plans is in this run."""


@dataclass(frozen=True)
class Chain:
    """Kernels to run in one start, and what is needed to place them in memory."""

    steps: tuple[KernelStep, ...]
    kernels: tuple[Ready, ...]


def root(operand: Operand) -> Operand:
    """Return what is viewed."""
    return root(operand.base) if isinstance(operand, View) else operand


def find_chain(config: ChipConfig, steps: Sequence[Step], resolve: Resolve) -> Chain:
    """Return the longest chain of the first steps; it has no kernels if the first step is none that
    a chain can have.
    """
    made: dict[Operand, int] = {}
    chosen: list[KernelStep] = []
    for step in steps:
        if not isinstance(step, KernelStep) or not step.plan.fits:
            break
        if not bounded(config, step.plan, step.epilogue):
            break
        if not all(_there(step, column, chosen, made) for column in range(len(step.operands))):
            break
        made[step.result] = len(chosen)
        chosen.append(step)

    packed: dict[tuple[object, ...], Tensor] = {}

    def pack(operand: Operand, stored: Stored) -> Tensor:
        found = resolve(operand)
        key = found.identity, stored.packing
        if key not in packed:
            packed[key] = found.pack(stored)
        return packed[key]

    kernels = []
    for step in chosen:
        operands: list[Tensor | int] = []
        sample = []
        for operand, stored in zip(step.operands, step.plan.nest.columns, strict=True):
            number = made.get(root(operand))
            operands.append(pack(operand, stored) if number is None else number)
            last = operands[-1]
            sample.append(_sample(root(operand)) if isinstance(last, int) else last)
        kernels.append(Ready(step.plan, step.epilogue, tuple(operands), tuple(sample)))
    return Chain(tuple(chosen), tuple(kernels))


def _there(
    step: KernelStep, column: int, before: Sequence[KernelStep], made: Mapping[Operand, int]
) -> bool:
    """Return whether an operand of a step is in memory when the kernels before it have run."""
    number = made.get(root(step.operands[column]))
    if number is None:
        return True
    mask = column == step.plan.nest.lane.mask
    return not mask and _in_place(before[number], step.plan.nest.columns[column])


def _in_place(step: KernelStep, stored: Stored) -> bool:
    """Return whether a kernel writes its result as another one reads it."""
    plan = step.plan
    written = plan.result.layout(plan.statement.result.indices, plan.sizes)
    return written is not None and written == stored.packing


def _sample(expected: Operand) -> Tensor:
    """Return a tensor with the entries that a result is expected to have."""
    assert expected.given is not None
    levels, modes = expected.given
    by_mode = expected.coordinates()
    if by_mode is None:
        by_mode = [places.reshape(-1) for places in np.indices(expected.shape)]
    values = np.zeros(
        len(by_mode[0]) if by_mode else 1, numbers.storage_dtype(expected.dtype, expected.wide)
    )
    return Tensor.from_stored(
        expected.shape,
        levels,
        by_mode,
        values,
        dtype=expected.dtype,
        wide=expected.wide,
        mode_order=modes,
    )
