"""Figures of each unit, and waivers: lines that no bench can execute, each with a reason."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tb.coverage.points import Line, Point

TARGET = 0.95
"""Share of each unit's lines that its benches must execute."""


@dataclass(frozen=True)
class Waiver:
    """Lines that no bench has to execute.

    Parameters
    ----------
    unit : str
        The unit, such as ``row/joiner``.
    line : str
        The line as the report shows it, ``signal: text``.
    reason : str
        Why it cannot be executed.
    kind : str
        Verilator's kind of point (``if``, ``else``, ``case``); any, if omitted.
    count : int
        Number of lines that it covers.
    """

    unit: str
    line: str
    reason: str
    kind: str = ""
    count: int = 1


@dataclass
class UnitCoverage:
    """Lines of a unit, and those that were executed."""

    name: str
    lines: int = 0
    covered: int = 0
    waived: int = 0
    missed: list[tuple[str, Line]] = field(default_factory=list)
    """Points neither executed nor waived: kind and line."""

    @property
    def share(self) -> float:
        """Share of executed lines among those not waived."""
        wanted = self.lines - self.waived
        return self.covered / wanted if wanted else 1.0


def read_waivers(path: Path) -> list[Waiver]:
    """Return the waivers of a file."""
    return [Waiver(**entry) for entry in tomllib.loads(path.read_text()).get("waiver", [])]


def summarize(
    points: Mapping[Point, tuple[int, Line]], waivers: Sequence[Waiver]
) -> tuple[list[UnitCoverage], list[str]]:
    """Return each unit's figures, by name, and a message for each waiver that does not match."""
    units: dict[str, UnitCoverage] = {}
    used = dict.fromkeys(waivers, 0)
    for point, (count, line) in points.items():
        unit = units.setdefault(point.place.unit, UnitCoverage(point.place.unit))
        unit.lines += 1
        if count:
            unit.covered += 1
            continue
        for waiver in waivers:
            if (waiver.unit, waiver.line) == (unit.name, line.label) and waiver.kind in (
                "",
                point.kind,
            ):
                used[waiver] += 1
                unit.waived += 1
                break
        else:
            unit.missed.append((point.kind, line))
    stale = [
        f"waiver of {waiver.unit}, {waiver.line}: {found} lines are not run, not {waiver.count}"
        for waiver, found in used.items()
        if found != waiver.count
    ]
    return [units[name] for name in sorted(units)], stale
