"""What layers take without zeros, in cycles and energy: measured, or estimated from a part."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopnest import Chip, RunReport

from ..report.run_energy import RunEnergy, added, digits


@dataclass(frozen=True)
class DenseLayer:
    """A layer without zeros."""

    cycles: float
    energy: RunEnergy

    @classmethod
    def of(cls, report: Any, times: float = 1, what: str = "") -> "DenseLayer | None":
        """Return it, given its report, or that of a part of which it is so many times as much, and
        what the part is; None if the backend counts no cycles.
        """
        if report.cycles is None or report.energy is None:
            return None
        energy = report.energy.scaled(times, what) if what else report.energy
        return cls(times * report.cycles, energy)


def rows_of_part(chip: Chip, each: int, rows: int) -> int:
    """Return how many rows a dense run takes that stands for all: ``each`` for every PE, so that
    none is idle, and at most ``rows``.
    """
    return min(rows, each * chip.config.pes)


def dense_energy(names: Iterable[str], dense: Sequence[DenseLayer]) -> RunEnergy:
    """Return the energy of layers with these names, and of all."""
    return added({name: layer.energy for name, layer in zip(names, dense, strict=True)})


def compare_energy(
    report: RunReport, layers: Mapping[str, Any], dense: Sequence[DenseLayer] | None
) -> tuple[str, dict[str, Any]]:
    """Return a line, and the figures of a run's energy beside that of its dense layers, in their
    order; neither, if the backend counts no cycles.
    """
    if dense is None or report.energy is None:
        return "", {"dense_energy": None}
    other = dense_energy(layers, dense)
    times = report.energy.beside(other).times
    line = (
        f"energy: {digits(report.energy.total * 1e6)} uJ; {digits(other.total * 1e6)} uJ without "
        f"zeros, {digits(times)}x as much"
    )
    return line, {"dense_energy": other.to_dict()}
