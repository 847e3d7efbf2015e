"""Chains: kernels of a program that run in one start, since each finds its operands in the chip's
memory: packed by the host before the start, or written by a kernel before it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

from loopnest_hw.config import ChipConfig
from loopnest_hw.format import WORD_BYTES

from ..expression.difference import DENSER
from ..expression.operand import Operand
from ..expression.reshaped import LastRows, Reshaped, row_major
from ..expression.stored import Stored
from ..expression.view import View
from ..kernel.lists import region_bytes
from ..kernel.lower import MIN_CAPACITY
from .image import Packed
from .steps import KernelStep, Step

MAX_REGION, MAX_REGIONS = 1 << 28, 1 << 31
"""Bytes up to which all entries that a result can have are reserved: for a kernel, and at the same
time in a chain.
"""

MAX_BROUGHT = 3 << 29
"""Bytes up to which a chain has operands that the host packs."""


class Chain(NamedTuple):
    """Kernels that run in one start, and why the kernel after them does not: nothing if there is
    none, or the host computes something first.
    """

    steps: tuple[KernelStep, ...]
    why: str


def root(operand: Operand) -> Operand:
    """Return the operand whose values these are: what is viewed, has another shape, or is stored
    with its zeros.
    """
    if operand.origin is not None:
        return root(operand.origin[0])
    return root(operand.base) if isinstance(operand, View | Reshaped) else operand


def unviewed(operand: Operand) -> Operand:
    """Return what is viewed."""
    return operand.base if isinstance(operand, View) else operand


def find_chain(
    config: ChipConfig,
    steps: Sequence[Step],
    kept: Collection[Operand] = (),
    fixed: Collection[int] = (),
) -> Chain:
    """Return the longest chain of the first steps; empty if a chain cannot have the first one. The
    results that are ``kept``, or that other steps use, stay in memory to its end. Operands that are
    the same in all runs are ``fixed``, by identity.
    """
    last_use = {root(operand): n for n, step in enumerate(steps) for operand in step.operands}
    made: dict[Operand, int] = {}
    chosen: list[KernelStep] = []
    reserved: dict[Operand, int] = {}
    brought: dict[tuple[object, ...], int] = {}
    why = ""
    for n, step in enumerate(steps):
        if not isinstance(step, KernelStep):
            break
        name = step.result.name
        if not step.plan.fits:
            why = f"the accumulator may be too small for {name}"
            break
        reserved[step.result] = nbytes = region_bytes(config, step.plan, step.epilogue)
        if nbytes > MAX_REGION:
            why = f"{name} takes up to {nbytes:,} bytes, and {MAX_REGION:,} can be reserved for one"
            break
        if sum(reserved.values()) > MAX_REGIONS:
            why = (
                f"with {name}, results take up to {sum(reserved.values()):,} bytes at the same "
                f"time, and {MAX_REGIONS:,} can be reserved"
            )
            break
        for packed in _brought(step, made, fixed):
            if packed.key not in brought:
                size = WORD_BYTES if packed.wide else config.dtype.narrow_bytes
                brought[packed.key] = sum(packed.capacities(size))
        if sum(brought.values()) > MAX_BROUGHT:
            total = sum(brought.values())
            why = f"operands from outside take {total:,} bytes, and a start has {MAX_BROUGHT:,}"
            break
        columns = range(len(step.plan.operands))
        moved = [c for c in columns if not _there(step, c, chosen, made)]
        if moved:
            operand = root(step.operands[moved[0]]).name
            why = f"{name} reads {operand} otherwise than it is written"
            break
        if step.base is not None and root(step.base) in made:
            before = root(step.base)
            if last_use[before] > n or before in kept or not _rows(chosen[made[before]]):
                why = f"{name} is written into {before.name}, which is read otherwise too"
                break
        made[step.result] = len(chosen)
        chosen.append(step)
        reserved = {
            result: nbytes
            for result, nbytes in reserved.items()
            if result in kept or last_use.get(result, n) > n
        }
    return Chain(tuple(chosen), why)


def _brought(
    step: KernelStep, made: Collection[Operand], fixed: Collection[int]
) -> Iterator[Packed]:
    """Yield what the host packs for a step, where these results are made before it."""
    for column, operand in enumerate(step.plan.operands):
        if root(operand) not in made:
            yield column_packed(step, column, fixed)
    if step.base is not None and root(step.base) not in made:
        yield base_packed(step.base, fixed)


def column_packed(step: KernelStep, column: int, fixed: Collection[int]) -> Packed:
    """Return how the host packs an operand of a step."""
    operand, nest = step.plan.operands[column], step.plan.nest
    mask = column == nest.lane.mask
    neutral = step.plan.semiring.neutral_bits(operand.dtype) if mask else None
    return _packed(operand, *nest.columns[column].packing, neutral, fixed)


def base_packed(base: Operand, fixed: Collection[int]) -> Packed:
    """Return how the host packs the tensor of which a result is a part."""
    return _packed(base, *row_major(len(base.shape)), None, fixed)


def _packed(
    operand: Operand,
    levels: tuple[str, ...],
    modes: tuple[int, ...],
    neutral: int | None,
    fixed: Collection[int],
) -> Packed:
    """Return how an operand is brought: one that is known may be denser in another run unless it is
    `Operand.fixed` or among the ``fixed``, one that is computed may have any entry.
    """
    shape = unviewed(operand).shape
    given = operand if operand.origin is None else operand.origin[0]
    whole = prod(shape)
    entries = DENSER * operand.nnz
    if not operand.known:
        most = whole * 2 * WORD_BYTES
        entries = whole if most <= MAX_REGION else entries + MIN_CAPACITY
    elif operand.fixed or not {operand.identity, given.identity}.isdisjoint(fixed):
        entries = operand.nnz
    return Packed(operand, shape, levels, modes, operand.wide, neutral, min(entries, whole), None)


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
    if written is None or isinstance(unviewed(operand), LastRows):
        return False
    if isinstance(unviewed(operand), Reshaped):
        return written == row_major(len(written[0])) and (
            stored.packing == row_major(len(stored.packing[0]))
        )
    return written == stored.packing
