"""Replays a recorded window through the mapped PE: energy and counters of its pieces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopnest_hw.power.cells import Numbers
from loopnest_hw.power.mapping import Mapped
from loopnest_hw.power.memories import memory_energy
from loopnest_hw.power.parts import by_part, clock_by_part
from loopnest_hw.power.replay import WORD_BITS, mismatches
from loopnest_hw.power.start import start

from .record import Recorded
from .units import Units, by_unit

PIECE_WORDS = 4
"""Words of 64 cycles in a piece, whose energy the fit takes as one equation."""

WRONG = 1e-3
"""Share of the registers' values that may be wrong."""


@dataclass(frozen=True)
class Measured:
    """A window's energy.

    Attributes
    ----------
    cycles : int
        Of the window.
    parts : mapping of str to array
        Energy of each part by piece, in joules.
    events : mapping of str to array
        The counters' increase by piece.
    clocks : mapping of str to float
        Energy of the clock in each part of the logic, in joules.
    units : dict
        The same of logic, clock and memories by kind of unit.
    inferred : int
        Registers that were not recorded, and follow from the others.
    wrong : float
        Of the values of all registers in all cycles, the share that does not follow from the cycle
        before: registers whose state before the window is not known.
    """

    name: str
    cycles: int
    parts: Mapping[str, Numbers]
    events: Mapping[str, Numbers]
    clocks: Mapping[str, float] = field(default_factory=dict)
    units: Units = field(default_factory=dict)
    inferred: int = 0
    wrong: float = 0.0

    @property
    def total(self) -> float:
        """Energy of the window, in joules."""
        return float(sum(energy.sum() for energy in self.parts.values()))

    @property
    def multiplies(self) -> int:
        """Useful multiplies in the window."""
        return int(self.events["multiplies"].sum())

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for ``json``, energies in pJ a cycle and a multiply."""
        sums = {part: float(energy.sum()) * 1e12 for part, energy in self.parts.items()}
        return {
            "name": self.name,
            "cycles": self.cycles,
            "multiplies": self.multiplies,
            "pj_per_cycle": {part: pj / self.cycles for part, pj in sums.items()},
            "clock_pj_per_cycle": {
                part: energy * 1e12 / self.cycles for part, energy in self.clocks.items()
            },
            "units_pj_per_cycle": {
                path: {kind: energy * 1e12 / self.cycles for kind, energy in own.items()}
                for path, own in self.units.items()
            },
            "pj_per_multiply": (
                {part: pj / self.multiplies for part, pj in sums.items()}
                if self.multiplies
                else None
            ),
            "inferred_registers": self.inferred,
            "wrong_register_values": self.wrong,
            "counters": {name: int(counts.sum()) for name, counts in self.events.items()},
        }


def measure(recorded: Recorded, mapped: Mapped, period_ns: float) -> Measured:
    """Return the energy of a recorded window.

    Raises
    ------
    ValueError
        If the replay is wrong: of too many registers, the recorded value does not follow from the
        cycle before.
    """
    recording, netlist = recorded.recording, mapped.netlist
    started = start(netlist, mapped.order, recorded.find, recording.words)
    values = started.values[:, recorded.warm // WORD_BITS :]
    recorded_cycles = recording.cycles - recorded.warm
    # the last recorded cycle ends the window's last one
    cycles = recorded_cycles - 1
    wrong = dict(mismatches(netlist, values, recorded_cycles))
    registers = sum(len(cells.unit) for cells in netlist.cells if cells.kind.is_flip_flop)
    share = sum(wrong.values()) / (registers * cycles)
    if share > WRONG:
        net = max(wrong, key=lambda net: wrong[net])
        unit, signal = netlist.names.get(net, [(0, "without a name")])[0]
        raise ValueError(
            f"{recorded.name}: {len(wrong)} registers do not follow from the cycle before, such as "
            f"{netlist.units[unit]}/{signal} in {wrong[net]} cycles"
        )
    window = mapped.analysis.energy(values, cycles, period_ns, PIECE_WORDS)
    memories = memory_energy(netlist, values, cycles, PIECE_WORDS)
    piece = PIECE_WORDS * WORD_BITS
    limits = [*range(0, cycles, piece), cycles]
    events = {name: np.diff(total).astype(float) for name, total in recorded.totals(limits).items()}
    parts = by_part(netlist, window, memories)
    clocks = clock_by_part(netlist, window)
    units = by_unit(netlist, window, memories)
    return Measured(recorded.name, cycles, parts, events, clocks, units, started.inferred, share)
