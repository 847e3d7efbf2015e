"""The chip compared with the CPU: ratios, each "times better than the CPU", and their means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from loopnest_hw.config import ChipConfig

from ...report.energy import DEFAULT_DRAM, RunEnergy
from .measured import Measured
from .power import DEFAULT_WATTS, energy_range
from .problems import KERNELS

Range = tuple[float, float]
"""By the CPU's cores, and by its package."""

RATIOS = (
    "time_ratio",
    "all_threads_time_ratio",
    "energy_ratio_low",
    "energy_ratio_high",
    "edp_ratio_low",
    "edp_ratio_high",
    "ceiling_low",
    "ceiling_high",
)
"""Names of the ratios of a row, and of their geometric means."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What figures follow from, beside what is measured.

    Attributes
    ----------
    config : ChipConfig
    period_ns : float
        Of the chip's clock.
    dram : str or float
        The chip's memory, as `run_energy` wants it.
    watts : (float, float)
        Of a core and of a package, where the CPU's energy is not measured.
    """

    config: ChipConfig
    period_ns: float
    dram: str | float = DEFAULT_DRAM
    watts: Range = DEFAULT_WATTS


class Compared:
    """A row of the table; what the backend does not count is None.

    Attributes
    ----------
    seconds : float or None
        Of the chip.
    energy : RunEnergy or None
        Of the chip and of its memory.
    one, all : Timing
        The CPU's fastest with one thread, and with all; the latter may be the same.
    joules : (float, float)
        Of the CPU: the lesser of both runs' energies.
    """

    def __init__(self, measured: Measured, terms: Terms) -> None:
        self.measured = measured
        cycles = measured.chip.cycles
        self.seconds = None if cycles is None else cycles * terms.period_ns * 1e-9
        self.energy: RunEnergy | None = measured.chip.energy(terms.config, terms.dram)
        threads = max(timing.threads for timing in measured.cpu)
        self.one, self.all = measured.best(1), measured.best(threads)
        runs = [
            (t.seconds, energy_range(t.seconds, t.threads, t.joules, terms.watts))
            for t in (self.one, self.all)
        ]
        self.joules: Range = _least(energy for _, energy in runs)
        self._delay: Range = _least((low * s, high * s) for s, (low, high) in runs)

    @property
    def right(self) -> bool:
        """Whether the chip's result is."""
        return self.measured.chip.right

    def ratios(self) -> dict[str, float]:
        """Return the ratios by their names (`RATIOS`); empty if no cycles were counted or the
        chip's result is wrong.

        The ceiling is that of the energy: with the chip's memory alone, by the traffic of the run.
        """
        if self.seconds is None or self.energy is None or not self.right:
            return {}
        joules, dram = self.energy.total, self.energy.parts["DRAM"]
        delay = joules * self.seconds
        (low, high), (edp_low, edp_high) = self.joules, self._delay
        found = (
            *(self.one.seconds / self.seconds, self.all.seconds / self.seconds),
            *(low / joules, high / joules, edp_low / delay, edp_high / delay),
            *(low / dram, high / dram),
        )
        return dict(zip(RATIOS, found, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the row for ``json``."""
        return {
            **self.measured.to_dict(),
            "seconds": self.seconds,
            "energy": None if self.energy is None else self.energy.to_dict(),
            "cpu_one": self.one.to_dict(),
            "cpu_all": self.all.to_dict(),
            "cpu_joules": list(self.joules),
            **self.ratios(),
        }


def _least(ranges: Iterable[Range]) -> Range:
    lows, highs = zip(*ranges, strict=True)
    return min(lows), min(highs)


def means(rows: Sequence[Compared]) -> dict[str, float | None]:
    """Return the geometric means of the ratios over all rows that have them; None if none has."""
    found = [ratios for row in rows if (ratios := row.ratios())]
    if not found:
        return dict.fromkeys(RATIOS)
    return {name: exp(sum(log(ratios[name]) for ratios in found) / len(found)) for name in RATIOS}


def kernel_means(rows: Sequence[Compared]) -> dict[str, dict[str, float | None]]:
    """Return the geometric means of each kernel that has rows."""
    by_kernel = {
        kernel: [row for row in rows if row.measured.kernel == kernel] for kernel in KERNELS
    }
    return {kernel: means(of_kernel) for kernel, of_kernel in by_kernel.items() if of_kernel}
