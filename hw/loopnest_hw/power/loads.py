"""Loads and slews of a netlist's nets, without placement."""

import numpy as np
from numpy.typing import NDArray

from ..memory_cells import INPUT_CAPACITANCE_FF, OUTPUT_TRANSITION_NS
from .cells import Cell, Library, Numbers
from .netlist import Netlist, Nets
from .replay import Level

CLOCK_SLEW_NS = 0.05
"""Slew of every clock pin: there is no clock tree, whose buffers would see to that."""

INPUT_SLEW_NS = 0.05
"""Slew of the top's inputs."""


class Loads:
    """The load of every net.

    Attributes
    ----------
    fanout : array of int
        Pins that each net drives, ports of the top included.
    wire, total : array
        Capacitance of the wire, and of wire and pins, F.
    """

    def __init__(self, netlist: Netlist, library: Library) -> None:
        pins = np.zeros(netlist.nets)
        self.fanout: NDArray[np.int64] = np.zeros(netlist.nets, np.int64)

        def add(nets: Nets, capacitance: float) -> None:
            np.add.at(pins, nets, capacitance)
            np.add.at(self.fanout, nets, 1)

        for cells in netlist.cells:
            for pin, capacitance in cells.kind.inputs.items():
                add(cells.pins[pin], capacitance)
        for memory in netlist.memories:
            for port, nets in memory.ports.items():
                if port not in ("RD_DATA", "clk"):
                    add(nets, INPUT_CAPACITANCE_FF * 1e-15)
        for nets in netlist.outputs.values():
            add(nets, 0.0)
        self.wire = library.wire_load.at(self.fanout)
        self.total: Numbers = self.wire + pins


def slews(netlist: Netlist, order: list[Level], loads: Loads) -> Numbers:
    """Return the slew of every net's rise and fall, ns: the largest that an input may cause; shape
    (2, nets).
    """
    found = np.zeros((2, netlist.nets))
    for nets in netlist.inputs.values():
        found[:, nets] = INPUT_SLEW_NS
    for memory in netlist.memories:
        found[:, memory.ports["RD_DATA"]] = OUTPUT_TRANSITION_NS
    for cells in netlist.cells:
        if cells.kind.clock:
            _propagate(cells.kind, cells.pins, found, loads)
    for level in order:
        _propagate(level.kind, level.pins, found, loads)
    return found


def _propagate(kind: Cell, pins: dict[str, Nets], found: Numbers, loads: Loads) -> None:
    """Set the slews of the outputs from those of the inputs."""
    for entry in kind.transitions:
        if entry.related not in kind.inputs:
            continue
        nets = pins[entry.pin]
        load = loads.total[nets]
        if entry.related == kind.clock:
            rising = falling = np.full(len(nets), CLOCK_SLEW_NS)
        else:
            rising, falling = found[:, pins[entry.related]]
            if entry.sense == "negative_unate":
                rising, falling = falling, rising
            elif entry.sense != "positive_unate":
                rising = falling = np.maximum(rising, falling)
        found[0, nets] = np.maximum(found[0, nets], entry.rise.at(rising, load))
        found[1, nets] = np.maximum(found[1, nets], entry.fall.at(falling, load))
