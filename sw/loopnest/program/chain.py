"""Chains: kernels of a program that run in one start, since each finds its operands in the chip's
memory: packed by the host before the start, or written by a kernel before it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loopnest_hw.config import ChipConfig

from ..expression.operand import Operand
from ..expression.reshaped import Reshaped, row_major
from ..expression.stored import Stored
from ..expression.view import View
from ..formats import numbers
from ..formats.tensor import Tensor
from ..kernel.lists import Ready, region_bytes
from .steps import KernelStep, Packing, Step

MAX_REGION, MAX_REGIONS = 1 << 28, 1 << 31
"""Bytes up to which all entries that a result can have are reserved: for a kernel, and in a chain.
"""

Resolve = Callable[[Operand], Operand]
"""Returns what an operand of the plans is in this run."""


def root(operand: Operand) -> Operand:
    """Return the operand whose values these are: what is viewed, or has another shape."""
    return root(operand.base) if isinstance(operand, View | Reshaped) else operand


def _unviewed(operand: Operand) -> Operand:
    """Return what is viewed."""
    return operand.base if isinstance(operand, View) else operand


def find_chain(config: ChipConfig, steps: Sequence[Step]) -> tuple[KernelStep, ...]:
    """Return the longest chain of the first steps; none if a chain cannot have the first one."""
    made: dict[Operand, int] = {}
    chosen: list[KernelStep] = []
    reserved = 0
    for step in steps:
        if not isinstance(step, KernelStep) or not step.plan.fits:
            break
        region = region_bytes(config, step.plan, step.epilogue)
        reserved += region
        if region > MAX_REGION or reserved > MAX_REGIONS:
            break
        if not all(_there(step, column, chosen, made) for column in range(len(step.operands))):
            break
        made[step.result] = len(chosen)
        chosen.append(step)
    return tuple(chosen)


def pack_chain(steps: Sequence[KernelStep], resolve: Resolve) -> tuple[Ready, ...]:
    """Pack the operands that are not results of a chain's kernels."""
    made: dict[Operand, int] = {step.result: n for n, step in enumerate(steps)}
    packing = Packing()
    kernels = []
    for step in steps:
        operands: list[Tensor | int] = []
        sample: list[Tensor] = []
        for operand, stored in zip(step.operands, step.plan.nest.columns, strict=True):
            number = made.get(root(operand))
            if number is None:
                tensor = packing.pack(resolve(operand), stored)
                operands.append(tensor)
                sample.append(tensor)
            else:
                operands.append(number)
                sample.append(_sample(_unviewed(operand)))
        kernels.append(Ready(step.plan, step.epilogue, tuple(operands), tuple(sample)))
    return tuple(kernels)


def _there(
    step: KernelStep, column: int, before: Sequence[KernelStep], made: Mapping[Operand, int]
) -> bool:
    """Return whether an operand of a step is in memory when the kernels before it have run."""
    number = made.get(root(step.operands[column]))
    if number is None:
        return True
    mask = column == step.plan.nest.lane.mask
    return not mask and _in_place(
        before[number], step.operands[column], step.plan.nest.columns[column]
    )


def _in_place(step: KernelStep, operand: Operand, stored: Stored) -> bool:
    """Return whether a kernel writes its result as another one reads it."""
    plan = step.plan
    written = plan.result.layout(plan.statement.result.indices, plan.sizes)
    if written is None:
        return False
    if isinstance(_unviewed(operand), Reshaped):
        return written == row_major(len(written[0])) and (
            stored.packing == row_major(len(stored.packing[0]))
        )
    return written == stored.packing


def _sample(expected: Operand) -> Tensor:
    """Return a tensor with the entries that a result is expected to have."""
    levels, modes = expected.given or row_major(len(expected.shape))
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
