"""Energy of a window by unit of the PE: where that of a multiply goes."""

import re
from collections.abc import Mapping
from typing import TypeAlias

from rich.box import SIMPLE
from rich.table import Table

from loopnest_hw.power.cells import Numbers
from loopnest_hw.power.energy import Window
from loopnest_hw.power.netlist import Netlist

KINDS = ("logic", "clock", "SRAM")
"""What takes energy for events: all but leakage."""

Units: TypeAlias = dict[str, dict[str, float]]
"""For each kind of unit, joules by `KINDS`."""

MIN_SHARE = 0.01
"""The least share of a unit in a table; smaller ones are one row."""


def kind_of(path: str) -> str:
    """Return what units of the same kind have in common: their path without numbers of instances,
    and a unit's wrapper as the unit.
    """
    return re.sub(r"_\d+", "_*", re.sub(r"\$\d+", "", path)).removesuffix("/unit")


def by_unit(netlist: Netlist, window: Window, memories: Numbers) -> Units:
    """Return a window's dynamic energy by kind of unit, without that of the units in it."""
    found: Units = {}
    for number, path in enumerate(netlist.units):
        own = found.setdefault(kind_of(path), dict.fromkeys(KINDS, 0.0))
        own["logic"] += float(window.parts["logic"][number].sum())
        own["clock"] += float(window.parts["clock"][number].sum())
        own["SRAM"] += float(memories[number].sum())
    return found


def unit_table(name: str, units: Mapping[str, Mapping[str, float]], multiplies: int) -> Table:
    """Return the table of a workload's dynamic energy in pJ a multiply, the largest unit first."""
    table = Table(title=f"{name}: pJ a multiply by unit", title_justify="left", box=SIMPLE)
    table.add_column("unit", no_wrap=True)
    for kind in (*KINDS, "total"):
        table.add_column(kind, justify="right")
    total = sum(sum(own.values()) for own in units.values())
    ranked = sorted(units.items(), key=lambda item: -sum(item[1].values()))
    shown = [(path, own) for path, own in ranked if sum(own.values()) >= MIN_SHARE * total]
    small = [own for _, own in ranked[len(shown) :]]
    others = {kind: sum(own[kind] for own in small) for kind in KINDS}
    whole = {kind: sum(own[kind] for own in units.values()) for kind in KINDS}
    for path, joules in [*shown, (f"{len(small)} others", others), ("all", whole)]:
        values = [joules[kind] for kind in KINDS]
        row = (f"{value * 1e12 / multiplies:.2f}" for value in (*values, sum(values)))
        table.add_row(path or "connections", *row)
    return table
