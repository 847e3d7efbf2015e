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
from ..kernel.lists import Ready, lower_list, single
from ..kernel.lower import Kernel, lower
from ..kernel.readback import read_result
from ..progress import Watch, running
from .build import Planned
from .chain import find_chain, pack_chain, root
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

    def chain(
        self,
        steps: Sequence[KernelStep],
        kernels: Sequence[Ready],
        needed: Collection[KernelStep],
    ) -> list[Tensor | None]:
        """Run kernels in one start; return the results of those needed, None for others."""


def execute(
    steps: Sequence[Step],
    runner: Runner,
    values: Values,
    results: Collection[Operand],
    *,
    chains: bool,
) -> None:
    """Run the steps in order, and add their results to ``values``, where these ``results`` stay;
    any other is dropped after the last step that uses it.

    ``chains``: kernels whose operands are in memory run in one start (`find_chain`).

    Raises
    ------
    ChipError
        If the chip ends a kernel with an error.
    """
    last_use = {root(o): n for n, step in enumerate(steps) for o in step.operands}
    n = 0
    while n < len(steps):
        chain = find_chain(runner.config, steps[n:]) if chains else ()
        after = n + max(1, len(chain))
        if len(chain) > 1:
            needed = [s for s in chain if s.result in results or last_use.get(s.result, 0) >= after]
            _chain(chain, needed, runner, values)
        else:
            _step(steps[n], runner, values)
        for step in steps[n:after]:
            for operand in map(root, step.operands):
                if last_use[operand] < after and not operand.known and operand not in results:
                    values.pop(operand, None)
        n = after


def _step(step: Step, runner: Runner, values: Values) -> None:
    operands = [resolved(operand, values) for operand in step.operands]
    if isinstance(step, KernelStep):
        packed = pack_operands(step.plan, operands)
        values[step.result] = _kernel(step, packed, runner, values)
    elif not step.result.known or any(
        new is not old for new, old in zip(operands, step.operands, strict=True)
    ):
        values[step.result] = step.apply(*operands)


def _chain(
    chain: Sequence[KernelStep],
    needed: Collection[KernelStep],
    runner: Runner,
    values: Values,
) -> None:
    """Run a chain, or if that fails its kernels one by one: they may take other loops, and a step
    that cannot be run tells why.
    """
    kernels = pack_chain(chain, lambda operand: resolved(operand, values))
    try:
        tensors = runner.chain(chain, kernels, needed)
    except ChipError:
        for step in chain:
            _step(step, runner, values)
        return
    for step, tensor in zip(chain, tensors, strict=True):
        if tensor is not None:
            values[step.result] = Operand(step.result.name, tensor, step.result.dtype)


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
        execute(instead, runner.instead_of(step), inner, kept, chains=False)
        found = inner[instead[-1].result].source
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
        kernel = lower(config, step.plan, tuple(tensors), epilogue=step.epilogue, capacity=capacity)
        try:
            with running(str(step.plan.statement), step.plan.cycles, progress) as tick:
                (counters,) = backend.run(single(kernel), tick)
            break
        except ChipError as error:
            if error.code is not ErrorCode.RESULT_FULL or error.needed <= kernel.capacity:
                raise
            capacity = error.needed
    return Run(_read(config, backend, step, kernel), kernel, counters)


def run_chain(
    config: ChipConfig,
    backend: Backend,
    steps: Sequence[KernelStep],
    ready: Sequence[Ready],
    needed: Collection[KernelStep],
    progress: bool | Watch = False,
) -> list[Run]:
    """Run the kernels of a chain in one start; only the results of those needed are read."""
    kernels = lower_list(config, ready)
    what = f"{len(steps)} kernels, to {steps[-1].plan.statement}"
    with running(what, sum(step.plan.cycles for step in steps), progress) as tick:
        counters = backend.run(kernels, tick)
    return [
        Run(_read(config, backend, step, kernel) if step in needed else None, kernel, counted)
        for step, kernel, counted in zip(steps, kernels.kernels, counters, strict=True)
    ]


def _read(config: ChipConfig, backend: Backend, step: KernelStep, kernel: Kernel) -> Tensor:
    """Return a kernel's result in the layout that later steps expect."""
    assert step.result.given is not None
    return read_result(kernel, config.dtype, backend.read, *step.result.given)


def user_result(planned: Planned, values: Values) -> Any:
    """Return a statement's result as the user gets it: a `Tensor` if an operand is one, otherwise
    an array, of SciPy if it is compressed.
    """
    prepared = planned.prepared
    tensor = values[planned.result].source
    if COMPRESSED not in prepared.levels and not any(map(_is_tensor, prepared.operands)):
        return tensor.to_dense()
    tensor = tensor.convert(prepared.levels)
    return tensor if any(map(_is_tensor, prepared.operands)) else tensor.to_scipy()


def _is_tensor(operand: Operand) -> bool:
    return isinstance(operand.source, Tensor)
