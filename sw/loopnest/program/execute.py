"""Executes a program's steps."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from loopnest_hw.config import ChipConfig
from loopnest_hw.registers import ErrorCode

from ..expression.operand import Operand
from ..expression.reshaped import Reshaped
from ..expression.view import View
from ..formats.pack import COMPRESSED
from ..formats.tensor import Tensor
from ..kernel.backends import Backend, ChipError, Counters
from ..kernel.lists import single
from ..kernel.lower import Kernel, lower
from ..kernel.readback import read_result
from ..progress import Watch, running
from .build import Planned
from .chain import root
from .image import Region
from .placed import put
from .start import Stage, Start
from .steps import KernelStep, Step, pack_operands

Values = dict[Operand, Operand]
"""What stands for an operand of the plans: a result, or another tensor than it was planned for."""


class Runner(Protocol):
    """Runs kernels."""

    @property
    def config(self) -> ChipConfig:
        """The chip's."""

    def instead_of(self, step: KernelStep) -> "Runner":
        """Return what runs the steps that compute the result of this one."""

    def kernel(self, step: KernelStep, operands: Sequence[Tensor]) -> Tensor:
        """Run a kernel with these packed operands; return its result."""

    def start(
        self, start: Start, tensors: Sequence[Tensor], needed: Collection[Operand]
    ) -> list[Tensor | None]:
        """Run kernels in one start, with these tensors in the regions of their image; return the
        results of those needed, None for others.
        """


def execute(
    stages: Sequence[Stage], runner: Runner, values: Values, results: Collection[Operand]
) -> None:
    """Run the stages in order, and add their results to ``values``, where these ``results`` stay;
    any other is dropped after the last stage that uses it.

    Raises
    ------
    ChipError
        If the chip ends a kernel with an error.
    """
    last_use = {root(o): n for n, stage in enumerate(stages) for o in stage.operands}
    for n, stage in enumerate(stages):
        if isinstance(stage, Start):
            needed = [r for r in stage.results if r in results or last_use.get(r, 0) > n]
            _start(stage, needed, runner, values)
        else:
            _step(stage, runner, values)
        for operand in map(root, stage.operands):
            if last_use[operand] == n and not operand.known and operand not in results:
                values.pop(operand, None)


def _step(step: Step, runner: Runner, values: Values) -> None:
    operands = [resolved(operand, values) for operand in step.operands]
    if isinstance(step, KernelStep):
        packed = pack_operands(step.plan, operands)
        values[step.result] = _kernel(step, packed, runner, values)
    elif not step.result.known or any(
        new is not old for new, old in zip(operands, step.operands, strict=True)
    ):
        values[step.result] = step.apply(*operands)


def _start(start: Start, needed: Collection[Operand], runner: Runner, values: Values) -> None:
    """Run kernels in one start, or if that fails one by one: they may take other loops, and a step
    that cannot be run tells why.
    """
    tensors = [_brought(region, values) for region in start.image.regions]
    try:
        found = runner.start(start, tensors, needed)
    except ChipError:
        if not start.steps:
            raise
        for step in start.steps:
            _step(step, runner, values)
        return
    for result, tensor in zip(start.results, found, strict=True):
        if tensor is not None:
            values[result] = Operand(result.name, tensor, result.dtype)


def _brought(region: Region, values: Values) -> Tensor:
    """Return the tensor that a region holds in this run."""
    found = resolved(region.operand, values)
    if region.default is not None and found.identity == region.operand.identity:
        return region.default
    return region.pack(found)


def resolved(operand: Operand, values: Values) -> Operand:
    """Return what an operand of the plans is in this run."""
    if operand in values:
        return values[operand]
    if operand.origin is not None:
        dense, zero = operand.origin
        found = resolved(dense, values)
        sparser = operand if found is dense else found.without(zero, 0.0)
        return found if sparser is None else sparser
    if isinstance(operand, Reshaped):
        return operand.apply(resolved(operand.base, values))
    if isinstance(operand, View):
        base = resolved(operand.base, values)
        return operand if base is operand.base else operand.of(base)
    return operand


def _kernel(step: KernelStep, packed: Sequence[Tensor], runner: Runner, values: Values) -> Operand:
    """Run a kernel, or what computes the same if the accumulator has too few slots."""
    try:
        tensor = runner.kernel(step, packed)
    except ChipError as error:
        instead = None
        if error.code is ErrorCode.SLOTS and step.instead is not None:
            instead = step.instead()
        if instead is None:
            raise
        inner = dict(values)
        kept = [*values, instead[-1].result]
        execute(instead, runner.instead_of(step), inner, kept)
        own = inner[instead[-1].result]
        part = step.plan.result.part
        if part is not None:
            bases = packed[len(step.plan.operands) :]
            whole = [Operand(step.result.name, base, own.dtype) for base in bases]
            own = put(part, own.dtype, step.result.wide, own, *whole)
        found = own.source
        assert step.result.given is not None
        tensor = found.convert(*step.result.given)
    return Operand(step.result.name, tensor, step.result.dtype)


@dataclass(frozen=True)
class Run:
    """A kernel that was run: its result if it was read, itself in memory, and what was counted."""

    result: Tensor | None
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
        columns = len(step.plan.operands)
        kernel = lower(
            config,
            step.plan,
            tuple(tensors[:columns]),
            epilogue=step.epilogue,
            capacity=capacity,
            base=next(iter(tensors[columns:]), None),
        )
        try:
            with running(str(step.plan.statement), step.plan.cycles, progress) as tick:
                (counters,) = backend.run(single(kernel), tick)
            break
        except ChipError as error:
            if error.code is not ErrorCode.RESULT_FULL or error.needed <= kernel.capacity:
                raise
            capacity = error.needed
    return Run(_read(config, backend, step.result, kernel), kernel, counters)


def run_start(
    config: ChipConfig,
    backend: Backend,
    start: Start,
    tensors: Sequence[Tensor],
    needed: Collection[Operand],
    progress: bool | Watch = False,
) -> list[Run]:
    """Run kernels in one start, with these tensors in the regions of their image; only the results
    of those needed are read.
    """
    kernels = start.holding(tensors)
    plans = [kernel.plan for kernel in kernels.kernels]
    what = str(plans[-1].statement)
    what = what if len(plans) == 1 else f"{len(plans)} kernels, to {what}"
    with running(what, sum(plan.cycles for plan in plans), progress) as tick:
        counters = backend.run(kernels, tick)
    return [
        Run(_read(config, backend, result, kernel) if result in needed else None, kernel, counted)
        for result, kernel, counted in zip(start.results, kernels.kernels, counters, strict=True)
    ]


def _read(config: ChipConfig, backend: Backend, result: Operand, kernel: Kernel) -> Tensor:
    """Return a kernel's result in the layout that later steps expect."""
    assert result.given is not None
    return read_result(kernel, config.dtype, backend.read, *result.given)


def user_result(planned: Planned, values: Values) -> Any:
    """Return a statement's result as the user gets it: a `Tensor` if an operand is one, otherwise
    an array, of SciPy if it is compressed.
    """
    prepared = planned.prepared
    return as_given(values[planned.result].source, prepared.levels, returns_tensor(planned))


def returns_tensor(planned: Planned) -> bool:
    """Return whether the user gets a statement's result as a `Tensor`."""
    return any(isinstance(operand.source, Tensor) for operand in planned.prepared.operands)


def as_given(tensor: Tensor, levels: tuple[str, ...], as_tensor: bool) -> Any:
    """Return a result with these levels as the user gets it."""
    if COMPRESSED not in levels and not as_tensor:
        return tensor.to_dense()
    tensor = tensor.convert(levels)
    return tensor if as_tensor else tensor.to_scipy()
