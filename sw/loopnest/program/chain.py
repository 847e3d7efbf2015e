"""Chains: kernels of a program that run in one start, since each finds its operands in the chip's
memory: packed by the host before the start, or written by a kernel before it.
"""

from collections.abc import Callable, Sequence
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
    packed: dict[tuple[object, ...], Tensor] = {}
    made: dict[Operand, KernelStep] = {}
    kernels: list[Ready] = []

    def operand_of(step: KernelStep, column: int) -> tuple[Tensor | int, Tensor] | None:
        operand, stored = step.operands[column], step.plan.nest.columns[column]
        base = root(operand)
        if base in made:
            if column == step.plan.nest.lane.mask or not _in_place(made[base], stored):
                return None
            return list(made).index(base), _sample(base)
        found = resolve(operand)
        key = found.identity, stored.packing
        if key not in packed:
            packed[key] = found.pack(stored)
        return packed[key], packed[key]

    for step in steps:
        if not isinstance(step, KernelStep) or not step.plan.fits:
            break
        if not bounded(config, step.plan, step.epilogue):
            break
        columns = [operand_of(step, c) for c in range(len(step.operands))]
        there = [column for column in columns if column is not None]
        if len(there) < len(columns):
            break
        operands, sample = zip(*there, strict=True)
        kernels.append(Ready(step.plan, step.epilogue, operands, sample))
        made[step.result] = step
    return Chain(tuple(made.values()), tuple(kernels))


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
