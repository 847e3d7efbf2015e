"""Executes a program's steps."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from loopnest_hw.config import ChipConfig
from loopnest_hw.registers import ErrorCode

from ..expression.operand import Operand
from ..expression.view import View
from ..formats.pack import COMPRESSED
from ..formats.tensor import Tensor
from ..kernel.backends import Backend, ChipError, Counters
from ..kernel.lower import Kernel, lower
from ..kernel.readback import read_compressed, read_dense
from ..progress import Watch, running
from .build import Planned
from .steps import KernelStep, Step, pack_operands

RunKernel = Callable[[KernelStep, Sequence[Tensor]], Tensor]
"""Runs a kernel with these packed operands and returns its result."""

Values = dict[Operand, Operand]
"""What stands for an operand of the plans: a result, or another tensor than it was planned for."""


def execute(
    steps: Sequence[Step], run: RunKernel, values: Values, results: Collection[Operand]
) -> None:
    """Run the steps in order, and add their results to ``values``, where these ``results`` stay;
    any other is dropped after the last step that uses it.

    Raises
    ------
    ChipError
        If the chip ends a kernel with an error.
    """
    last_use = {_root(o): n for n, step in enumerate(steps) for o in step.operands}
    for n, step in enumerate(steps):
        operands = [resolved(operand, values) for operand in step.operands]
        if isinstance(step, KernelStep):
            values[step.result] = _kernel(step, operands, run, values)
        elif not step.result.known or any(
            new is not old for new, old in zip(operands, step.operands, strict=True)
        ):
            values[step.result] = step.apply(*operands)
        for operand in map(_root, step.operands):
            if last_use[operand] == n and not operand.known and operand not in results:
                values.pop(operand, None)


def _root(operand: Operand) -> Operand:
    return _root(operand.base) if isinstance(operand, View) else operand


def resolved(operand: Operand, values: Values) -> Operand:
    """Return what an operand of the plans is in this run."""
    if operand in values:
        return values[operand]
    if operand.origin is not None:
        dense, zero = operand.origin
        found = resolved(dense, values)
        sparser = operand if found is dense else found.without(zero, 0.0)
        return found if sparser is None else sparser
    if isinstance(operand, View):
        base = resolved(operand.base, values)
        return operand if base is operand.base else operand.of(base)
    return operand


def _kernel(
    step: KernelStep, operands: Sequence[Operand], run: RunKernel, values: Values
) -> Operand:
    """Run a kernel, or what computes the same if the accumulator has too few slots."""
    try:
        tensor = run(step, pack_operands(step.plan, operands))
    except ChipError as error:
        instead = None
        if error.code is ErrorCode.SLOTS and step.instead is not None:
            instead = step.instead()
        if instead is None:
            raise
        inner = dict(values)
        execute(instead, run, inner, [*values, instead[-1].result])
        return inner[instead[-1].result]
    return Operand(step.result.name, tensor, step.result.dtype)


@dataclass(frozen=True)
class Run:
    """A kernel that was run: its result, itself in memory, and what was counted."""

    result: Tensor
    kernel: Kernel
    counters: Counters


def run_kernel(
    config: ChipConfig,
    backend: Backend,
    step: KernelStep,
    tensors: Sequence[Tensor],
    progress: bool | Watch = False,
) -> Run:
    """Run one kernel, and again with more capacity if its result did not fit: the chip reports the
    size.
    """
    capacity: int | None = None
    while True:
        kernel = lower(config, step.plan, tuple(tensors), epilogue=step.epilogue, capacity=capacity)
        try:
            with running(str(step.plan.statement), step.plan.cycles, progress) as tick:
                counters = backend.run(kernel, tick)
            break
        except ChipError as error:
            if error.code is not ErrorCode.RESULT_FULL or error.needed <= kernel.capacity:
                raise
            capacity = error.needed
    if COMPRESSED in step.levels:
        result = read_compressed(kernel, config.dtype, backend.read, step.levels)
    else:
        result = read_dense(kernel, config.dtype, backend.read)
    return Run(result, kernel, counters)


def user_result(planned: Planned, values: Values) -> Any:
    """Return a statement's result as the user gets it: a `Tensor` if an operand is one, otherwise
    an array, of SciPy if it is compressed.
    """
    prepared = planned.prepared
    tensor = values[planned.result].source
    if any(isinstance(operand.source, Tensor) for operand in prepared.operands):
        return tensor
    return tensor.to_scipy() if COMPRESSED in prepared.levels else tensor.to_dense()
