"""What is measured of a kernel, on the chip and on the CPU: neither energies nor ratios."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loopnest import Chip
from loopnest_hw.config import ChipConfig

from ...kernel.backends import Counters
from ...report.energy import RunEnergy, run_energy
from ..outcome import run_case, same
from .problems import Problem
from .timing import Timing


@dataclass(frozen=True)
class CountedRun:
    """A kernel's counters, with the chip that counted them."""

    config: ChipConfig
    counters: Counters


@dataclass(frozen=True, kw_only=True)
class OnChip:
    """A run on the chip.

    Attributes
    ----------
    right : bool
        The result equals SciPy's.
    order : str
        The loops of its kernels.
    cycles : int or None
        None if the backend counts none.
    counters : sequence of mapping of str to int
        Of each kernel.
    simulated : float
        Seconds that the simulation took.
    """

    right: bool
    order: str
    cycles: int | None
    counters: Sequence[Mapping[str, int]]
    simulated: float

    def energy(self, config: ChipConfig, dram: str | float) -> RunEnergy | None:
        """Return the energy, by today's energies of the events."""
        return run_energy([CountedRun(config, Counters(each)) for each in self.counters], dram)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A kernel on one matrix or tensor; ``cpu``: the times of all candidates."""

    kernel: str
    data: str
    nonzeros: int
    chip: OnChip
    cpu: Sequence[Timing]

    @classmethod
    def of(cls, problem: Problem, chip: OnChip, cpu: Sequence[Timing]) -> "Measured":
        """Return what is measured of a problem."""
        return cls(
            kernel=problem.kernel,
            data=problem.data,
            nonzeros=problem.nonzeros,
            chip=chip,
            cpu=cpu,
        )

    def best(self, threads: int) -> Timing:
        """Return the fastest with at most so many threads."""
        return min((t for t in self.cpu if t.threads <= threads), key=lambda t: t.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return all for ``json``, and for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Measured":
        """Return what was saved."""
        return cls(
            kernel=saved["kernel"],
            data=saved["data"],
            nonzeros=saved["nonzeros"],
            chip=OnChip(**saved["chip"]),
            cpu=[Timing(**timing) for timing in saved["cpu"]],
        )


def run_on_chip(chip: Chip, problem: Problem) -> OnChip:
    """Run a kernel on the chip, and compare its result."""
    case = problem.case
    result, seconds = run_case(chip, case)
    report = chip.report
    assert report is not None
    return OnChip(
        right=same(result, case.expected()),
        order=report.order,
        cycles=report.cycles,
        counters=[dict(counters) for counters in report.counters],
        simulated=seconds,
    )
