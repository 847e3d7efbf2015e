"""The CPU's energy: its own counters (RAPL) where the machine shows them, else watts times time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

DOMAINS = ("core", "package")
"""The parts of a CPU that are compared: its cores, and all of it."""

DEFAULT_WATTS = (3.75, 65.0)
"""Watts where there are no counters: of a core, and of a package.

The lower one is a server's rated power by its cores: AMD EPYC 9654, 360 W and 96 cores (data
sheet). The higher one is the rated power of a desktop's package, AMD Ryzen 7 7700 (data sheet);
those of servers take several times as much.
"""

Joules = Mapping[str, float]
"""Joules by domain."""


@dataclass(frozen=True)
class Counter:
    """A counter of microjoules, which begins again at 0 after its range."""

    file: Path
    range: int

    def read(self) -> int:
        """Return its value."""
        return int(self.file.read_text())


class Meter:
    """Measures joules by domain, of all packages; of no domain where there are no counters.

    Parameters
    ----------
    folder : path
        Where the kernel shows them.

    Attributes
    ----------
    note : str
        Why something is not measured; empty if all is.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._counters: dict[str, list[Counter]] = {}
        unreadable = False
        # intel-rapl-mmio has the same packages once more
        for place in sorted(folder.glob("intel-rapl:*")):
            domain = (place / "name").read_text().strip().partition("-")[0]
            if domain not in DOMAINS:
                continue
            try:
                counter = Counter(
                    place / "energy_uj", int((place / "max_energy_range_uj").read_text())
                )
                counter.read()
            except OSError:
                unreadable = True
                continue
            self._counters.setdefault(domain, []).append(counter)
        missing = [domain for domain in DOMAINS if domain not in self._counters]
        why = "not readable, except by root" if unreadable else "not shown by this machine"
        self.note = f"RAPL of {' and '.join(missing)}: {why}" if missing else ""

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that are measured."""
        return tuple(self._counters)

    def read(self) -> dict[str, list[int]]:
        """Return the counters' values, for `since`."""
        return {name: [one.read() for one in of_name] for name, of_name in self._counters.items()}

    def since(self, before: Mapping[str, list[int]]) -> dict[str, float]:
        """Return the joules since some values were read, in less time than a counter's range."""
        now = self.read()
        return {
            name: sum(
                (new - old) % (counter.range + 1)
                for counter, old, new in zip(of_name, before[name], now[name], strict=True)
            )
            * 1e-6
            for name, of_name in self._counters.items()
        }


def energy_range(
    seconds: float, threads: int, joules: Joules, watts: tuple[float, float]
) -> tuple[float, float]:
    """Return the joules of a run, by its cores and by the package.

    What is not measured is estimated: a core's watts for each thread, and those of a package.
    """
    cores = joules.get("core", watts[0] * threads * seconds)
    return cores, joules.get("package", watts[1] * seconds)
