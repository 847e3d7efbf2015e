"""Replays a recorded window through the mapped PE: energy and counters of its pieces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopnest_hw.power.cells import Numbers
from loopnest_hw.power.mapping import Mapped
from loopnest_hw.power.memories import memory_energy
from loopnest_hw.power.parts import by_part
from loopnest_hw.power.replay import WORD_BITS, mismatches
from loopnest_hw.power.start import start

from .record import Recorded

PIECE_WORDS = 4
"""Words of 64 cycles in a piece, whose energy the fit takes as one equation."""


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
    """

    name: str
    cycles: int
    parts: Mapping[str, Numbers]
    events: Mapping[str, Numbers]

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
            "pj_per_multiply": (
                {part: pj / self.multiplies for part, pj in sums.items()}
                if self.multiplies
                else None
            ),
            "counters": {name: int(counts.sum()) for name, counts in self.events.items()},
        }


def measure(recorded: Recorded, mapped: Mapped, period_ns: float) -> Measured:
    """Return the energy of a recorded window.

    Raises
    ------
    ValueError
        If the replay is wrong: a register's recorded value does not follow from the cycle before.
    """
    recording = recorded.recording
    # the last recorded cycle ends the window's last one
    cycles = recording.cycles - 1
    started = start(mapped.netlist, mapped.order, recorded.find, recording.words)
    values = started.values
    wrong = list(mismatches(mapped.netlist, values, recording.cycles))
    if wrong:
        net, count = max(wrong, key=lambda entry: entry[1])
        unit, signal = mapped.netlist.names.get(net, [(0, "without a name")])[0]
        where = f"{mapped.netlist.units[unit]}/{signal}"
        raise ValueError(
            f"{recorded.name}: {len(wrong)} registers do not follow from the cycle before, such as "
            f"{where} in {count} cycles"
        )
    window = mapped.analysis.energy(values, cycles, period_ns, PIECE_WORDS)
    memories = memory_energy(mapped.netlist, values, cycles, PIECE_WORDS)
    piece = PIECE_WORDS * WORD_BITS
    limits = [*range(0, cycles, piece), cycles]
    events = {name: np.diff(total).astype(float) for name, total in recorded.totals(limits).items()}
    return Measured(recorded.name, cycles, by_part(mapped.netlist, window, memories), events)
