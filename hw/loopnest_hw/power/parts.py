"""The parts of a PE that energy is given for, and the units that belong to each."""

import numpy as np

from .cells import Numbers
from .energy import Window
from .netlist import Netlist

UNITS = {
    "lanes": ("leaf/lanes", "leaf/dot"),
    "leaf": ("leaf",),
    "rows": ("row_", "leaf_row", "replay"),
    "streams": ("streams",),
    "accumulator": ("accumulator",),
    "way out": ("assembler", "combiner", "finished", "terms", "result"),
    "connections": ("",),
}
"""By the part: how the paths of its units begin, the first that fits counts."""

PARTS = (*UNITS, "clock", "leakage", "SRAM")
"""The parts of the logic by unit; the clock, leakage and memories of all units."""


def part_of(path: str) -> str:
    """Return the part of the logic that a unit belongs to."""
    return next(part for part, starts in UNITS.items() if path.startswith(starts))


def clock_by_part(netlist: Netlist, window: Window) -> dict[str, float]:
    """Return the energy of the clock in each part of the logic, in joules."""
    found = dict.fromkeys(UNITS, 0.0)
    for unit, path in enumerate(netlist.units):
        found[part_of(path)] += float(window.parts["clock"][unit].sum())
    return found


def by_part(netlist: Netlist, window: Window, memories: Numbers) -> dict[str, Numbers]:
    """Return the energy of each part in each piece of a window, in joules."""
    found = {part: np.zeros(memories.shape[1]) for part in PARTS}
    for unit, path in enumerate(netlist.units):
        found[part_of(path)] += window.parts["logic"][unit]
    for part in ("clock", "leakage"):
        found[part] = window.parts[part].sum(axis=0)
    found["SRAM"] = memories.sum(axis=0)
    return found
