"""What runs a program's steps: a chip, as threads share it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from loopnest_hw.config import ChipConfig
from loopnest_sim.memory import Memory

from ..expression.operand import Operand
from ..formats.tensor import Tensor
from ..kernel.shared import SharedBackend
from ..progress import Watch
from ..report.report import RunReport, make_report
from .execute import Values, execute, run_kernel
from .steps import KernelStep, Step


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
        self, steps: Sequence[Step], values: Values, results: Collection[Operand]
    ) -> list[RunReport]:
        """Run the steps (`execute`); return the report of each kernel.

        Raises
        ------
        ChipError
            If the chip ends a kernel with an error.
        """
        reports: list[RunReport] = []

        def run(step: KernelStep, packed: Sequence[Tensor]) -> Tensor:
            done = self.shared.run(
                lambda backend: run_kernel(self.config, backend, step, packed, self.progress)
            )
            reports.append(make_report(self.config, self.memory, done.kernel, done.counters))
            return done.result

        execute(steps, run, values, results)
        return reports
