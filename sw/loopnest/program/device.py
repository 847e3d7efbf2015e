"""What runs a program's steps: a chip, as threads share it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from loopnest_hw.config import ChipConfig
from loopnest_sim.memory import Memory

from ..expression.operand import Operand
from ..formats.tensor import Tensor
from ..kernel.backends import Backend
from ..kernel.shared import SharedBackend
from ..progress import Watch
from ..report.report import RunReport, make_report
from .execute import Run, Values, execute, run_kernel, run_start
from .start import Stage, Start
from .steps import KernelStep


@dataclass(frozen=True)
class Device:
    """A chip's configuration, its memory's behaviour, and its backend.

    ``progress`` is that of `Chip`.
    """

    config: ChipConfig
    memory: Memory
    shared: SharedBackend
    progress: bool | Watch

    def execute(
        self,
        stages: Sequence[Stage],
        values: Values,
        results: Collection[Operand],
    ) -> list[tuple[Operand, RunReport]]:
        """Run the stages (`execute`); return the report of each kernel, and the result that it
        computes or helps to compute.

        Raises
        ------
        ChipError
            If the chip ends a kernel with an error.
        """
        runner = _Runner(self, [], None)
        execute(stages, runner, values, results)
        return runner.reports


class HasDevice(Protocol):
    """A chip, as far as a program needs it."""

    device: Device


def configuration(config: ChipConfig) -> dict[str, Any]:
    """Return the fields of a configuration, as ``json`` can write them."""
    own = {field.name: getattr(config, field.name) for field in fields(config)}
    return own | {"dtype": config.dtype.value}


def mismatch(found: Mapping[str, Any], config: ChipConfig) -> str | None:
    """Return why a program for a chip of this `configuration` cannot run on another; None if it
    can.
    """
    own = configuration(config)
    for name in own.keys() | found.keys():
        if found.get(name) != own.get(name):
            return (
                f"the program is for a chip with {name}={found.get(name)}: this one has "
                f"{own.get(name)}"
            )
    return None


@dataclass(frozen=True)
class _Runner:
    """Runs kernels on a device, and collects their reports, all as those of ``result`` if it is
    given.
    """

    device: Device
    reports: list[tuple[Operand, RunReport]]
    result: Operand | None

    @property
    def config(self) -> ChipConfig:
        return self.device.config

    def instead_of(self, step: KernelStep) -> "_Runner":
        return replace(self, result=self.result or step.result)

    def kernel(self, step: KernelStep, operands: Sequence[Tensor]) -> Tensor:
        own = self.device

        def work(backend: Backend) -> Run:
            return run_kernel(own.config, backend, step, operands, own.progress)

        (result,) = self._reported([step.result], [own.shared.run(work)])
        assert result is not None
        return result

    def start(
        self, start: Start, tensors: Sequence[Tensor], needed: Collection[Operand]
    ) -> list[Tensor | None]:
        own = self.device

        def work(backend: Backend) -> list[Run]:
            return run_start(own.config, backend, start, tensors, needed, own.progress)

        return self._reported(start.results, own.shared.run(work))

    def _reported(self, results: Sequence[Operand], runs: Sequence[Run]) -> list[Tensor | None]:
        for result, run in zip(results, runs, strict=True):
            report = make_report(self.config, self.device.memory, run.kernel, run.counters)
            self.reports.append((self.result or result, report))
        return [run.result for run in runs]
