"""Chains: kernels of a program that run in one start, since each finds its operands in the chip's
memory: packed by the host before the start, or written by a kernel before it.
"""

from collections.abc import Collection, Mapping, Sequence

from loopnest_hw.config import ChipConfig

from ..expression.operand import Operand
from ..expression.reshaped import Reshaped, row_major
from ..expression.stored import Stored
from ..expression.view import View
from ..kernel.lists import region_bytes
from .steps import KernelStep, Step

MAX_REGION, MAX_REGIONS = 1 << 28, 1 << 31
"""Bytes up to which all entries that a result can have are reserved: for a kernel, and at the same
time in a chain.
"""


def root(operand: Operand) -> Operand:
    """Return the operand whose values these are: what is viewed, or has another shape."""
    return root(operand.base) if isinstance(operand, View | Reshaped) else operand


def unviewed(operand: Operand) -> Operand:
    """Return what is viewed."""
    return operand.base if isinstance(operand, View) else operand


def find_chain(
    config: ChipConfig, steps: Sequence[Step], kept: Collection[Operand] = ()
) -> tuple[KernelStep, ...]:
    """Return the longest chain of the first steps; none if a chain cannot have the first one. The
    results that are ``kept``, or that other steps use, stay in memory to its end.
    """
    last_use = {root(operand): n for n, step in enumerate(steps) for operand in step.operands}
    made: dict[Operand, int] = {}
    chosen: list[KernelStep] = []
    reserved: dict[Operand, int] = {}
    for n, step in enumerate(steps):
        if not isinstance(step, KernelStep) or not step.plan.fits:
            break
        reserved[step.result] = region_bytes(config, step.plan, step.epilogue)
        if reserved[step.result] > MAX_REGION or sum(reserved.values()) > MAX_REGIONS:
            break
        columns = range(len(step.plan.operands))
        if not all(_there(step, column, chosen, made) for column in columns):
            break
        if step.base is not None and root(step.base) in made:
            before = root(step.base)
            if last_use[before] > n or before in kept or not _rows(chosen[made[before]]):
                break
        made[step.result] = len(chosen)
        chosen.append(step)
        reserved = {
            result: nbytes
            for result, nbytes in reserved.items()
            if result in kept or last_use.get(result, n) > n
        }
    return tuple(chosen)


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


def _rows(step: KernelStep) -> bool:
    """Return whether a kernel writes a dense result in the order of its modes."""
    plan = step.plan
    written = plan.result.layout(plan.statement.result.indices, plan.sizes)
    return written is not None and written == row_major(len(written[0]))


def _in_place(step: KernelStep, operand: Operand, stored: Stored) -> bool:
    """Return whether a kernel writes its result as another one reads it."""
    plan = step.plan
    written = plan.result.layout(plan.statement.result.indices, plan.sizes)
    if written is None:
        return False
    if isinstance(unviewed(operand), Reshaped):
        return written == row_major(len(written[0])) and (
            stored.packing == row_major(len(stored.packing[0]))
        )
    return written == stored.packing
