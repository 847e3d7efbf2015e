"""Energy of a replayed window, by unit and by part.

A net that toggles charges or discharges its load: half of capacitance times voltage squared. The
cells' own energies are from the library's tables, at the load and slew of each pin: those of an
output for the input that changed with it, those of an input where no output changes. A clock pin
pays in the cycles in which its clock has an edge.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .boolean import compile_expression
from .cells import Cell, Energy, Library, Numbers
from .loads import CLOCK_SLEW_NS, Loads, slews
from .netlist import Cells, Netlist
from .replay import (
    ALL,
    WORD_BITS,
    Level,
    Words,
    clocked,
    cycle_mask,
    enables,
    next_cycle,
)

PARTS = ("logic", "clock", "leakage")


@dataclass(frozen=True)
class Window:
    """Energy of consecutive cycles, in joules.

    Attributes
    ----------
    cycles : int
        Edges of the clock in the window.
    parts : dict of str to array
        For each of `PARTS`, the energy by unit and by piece of the window; shape (units, pieces).
        What the top's inputs charge is not included.
    inputs : float
        That.
    """

    cycles: int
    parts: dict[str, Numbers]
    inputs: float

    def total(self) -> float:
        """Return the sum of all parts."""
        return float(sum(part.sum() for part in self.parts.values()))


class Analysis:
    """What does not depend on the values: loads, slews, and the tables' energies at them."""

    def __init__(self, netlist: Netlist, library: Library, order: list[Level]) -> None:
        self.netlist, self.library = netlist, library
        self.loads = Loads(netlist, library)
        self.slews = slews(netlist, order, self.loads)

    def energy(
        self, values: Words, cycles: int, period_ns: float, piece_words: int | None = None
    ) -> Window:
        """Return the energy of a window.

        Parameters
        ----------
        values : array of uint64
            All nets' values (`replay.evaluate`), of one cycle more than the window has.
        cycles : int
            Edges of the clock in it.
        period_ns : float
            The clock's period, for leakage.
        piece_words : int, optional
            Words of a piece, for each of which energy is given; the whole window if omitted.
        """
        return _Sum(self, values, cycles, period_ns, piece_words).run()


class _Sum:
    """Adds up a window's energies, kind by kind."""

    def __init__(
        self,
        analysis: Analysis,
        values: Words,
        cycles: int,
        period_ns: float,
        piece_words: int | None,
    ) -> None:
        self._analysis, self._values = analysis, values
        self._cycles, self._period = cycles, period_ns * 1e-9
        words = -(-cycles // WORD_BITS)
        self._piece = piece_words or words
        self._pieces = -(-words // self._piece)
        self._mask = cycle_mask(cycles, values.shape[1])
        self._edges, _ = enables(analysis.netlist, values)
        units = len(analysis.netlist.units)
        self._parts = {part: np.zeros((units, self._pieces)) for part in PARTS}
        lengths = np.minimum(
            cycles - np.arange(self._pieces) * self._piece * WORD_BITS, self._piece * WORD_BITS
        )
        self._lengths = lengths.astype(float)

    def run(self) -> Window:
        netlist, loads = self._analysis.netlist, self._analysis.loads
        for cells in netlist.cells:
            if not cells.kind.outputs:
                continue
            toggles = self._outputs(cells)
            if cells.kind.clock:
                self._clock(cells)
            self._inputs(cells, toggles)
            self._leakage(cells)
        memory_nets = [(m.ports["RD_DATA"], m.unit) for m in netlist.memories]
        for nets, unit in memory_nets:
            counts = self._count(self._toggles(nets))
            energy = counts * self._switching(loads.total[nets])[:, None]
            self._parts["logic"][unit] += energy.sum(axis=0)
        nets = np.concatenate([np.zeros(0, np.int64), *netlist.inputs.values()])
        clocks = np.array(list(self._edges), np.int64)
        nets = nets[~np.isin(nets, clocks)]
        counts = self._count(self._toggles(nets)).sum(axis=1)
        inputs = float((counts * self._switching(loads.total[nets])).sum())
        return Window(self._cycles, self._parts, inputs)

    def _switching(self, load: Numbers) -> Numbers:
        return 0.5 * load * self._analysis.library.voltage**2

    def _toggles(self, nets: NDArray[np.int64]) -> Words:
        """Return the cycles at whose end each net toggles."""
        values = self._values[nets]
        found: Words = (values ^ next_cycle(values)) & self._mask
        return found

    def _count(self, words: Words) -> Numbers:
        """Return the number of ones in each piece; shape (cells, pieces)."""
        counts = np.bitwise_count(words & self._mask)
        at = np.arange(0, self._pieces * self._piece, self._piece)
        found: Numbers = np.add.reduceat(counts, at, axis=1, dtype=np.int64).astype(float)
        return found

    def _add(self, part: str, cells: Cells, energy: Numbers) -> None:
        np.add.at(self._parts[part], cells.unit, energy)

    def _pin_slew(self, cells: Cells, pin: str) -> Numbers:
        """Return the mean slew of a pin's transitions."""
        if pin == cells.kind.clock:
            return np.full(len(cells.unit), CLOCK_SLEW_NS)
        found: Numbers = self._analysis.slews[:, cells.pins[pin]].mean(axis=0)
        return found

    def _table(self, cells: Cells, entry: Energy, related: str) -> tuple[Numbers, Numbers]:
        """Return the energies of a rise and a fall."""
        load = self._analysis.loads.total[cells.pins[entry.pin]]
        slew = self._pin_slew(cells, related)
        return entry.rise.at(slew, load), entry.fall.at(slew, load)

    def _after(self, cells: Cells) -> dict[str, Words]:
        """Return the values of all pins after the end of each cycle."""
        pins = (*cells.kind.inputs, *cells.kind.outputs)
        return {pin: next_cycle(self._values[cells.pins[pin]]) for pin in pins}

    def _outputs(self, cells: Cells) -> Words:
        """Add the energy of outputs that toggle; return the cycles at whose end any does."""
        kind, any_output = cells.kind, np.zeros((len(cells.unit), self._values.shape[1]), np.uint64)
        if kind.is_gate:
            return any_output
        after = self._after(cells)
        for pin in kind.outputs:
            toggles = self._toggles(cells.pins[pin])
            any_output |= toggles
            counts = self._count(toggles)
            load = self._analysis.loads.total[cells.pins[pin]]
            energy = counts * self._switching(load)[:, None]
            entries = [e for e in kind.energies if e.pin == pin and e.related]
            weights, means = [], []
            for entry in entries:
                for related in entry.related:
                    rise, fall = self._table(cells, entry, related)
                    means.append((rise + fall) / 2)
                    caused = (
                        toggles
                        if related == kind.clock
                        else toggles & self._toggles(cells.pins[related])
                    )
                    caused = caused & _condition(kind, entry.when, after)
                    weights.append(np.bitwise_count(caused).sum(axis=1, dtype=np.int64))
            if means:
                weight, mean = np.array(weights, float), np.array(means)
                weight[:, weight.sum(axis=0) == 0] = 1  # no table is for such a transition
                average = (weight * mean).sum(axis=0) / weight.sum(axis=0)
                energy += counts * average[:, None]
            self._add("logic", cells, energy)
        return any_output

    def _inputs(self, cells: Cells, outputs: Words) -> None:
        """Add the energy of inputs that toggle while no output does."""
        kind = cells.kind
        for pin in kind.inputs:
            entries = [e for e in kind.energies if e.pin == pin and not e.related]
            if not entries or pin == kind.clock:
                continue
            toggles = self._toggles(cells.pins[pin])
            if not kind.clock:
                toggles = toggles & ~outputs
            for entry in entries:
                rise, fall = self._table(cells, entry, pin)
                counts = self._in_states(cells, entry.when, toggles)
                self._add("logic", cells, counts * ((rise + fall) / 2)[:, None])

    def _in_states(self, cells: Cells, when: str, cycles: Words) -> Numbers:
        """Return how many of these cycles meet a condition right after their end.

        A clock that has an edge is high for half a cycle.
        """
        after = self._after(cells)
        kind = cells.kind
        if not kind.clock:
            return self._count(cycles & _condition(kind, when, after))
        edges = clocked(cells, self._edges)
        low = after | {kind.clock: np.zeros_like(edges)}
        high = after | {kind.clock: np.full_like(edges, ALL)}
        if kind.is_gate:
            (output,) = kind.outputs
            low[output] = np.zeros_like(edges)
            high[output] = self._values[cells.pins[kind.data]]
        at_low = cycles & _condition(kind, when, low)
        at_high = cycles & _condition(kind, when, high)
        found: Numbers = self._count(at_low) + 0.5 * (
            self._count(at_high & edges) - self._count(at_low & edges)
        )
        return found

    def _clock(self, cells: Cells) -> None:
        """Add the energy of clock pins, their wires and what a clock gate drives."""
        kind = cells.kind
        edges = clocked(cells, self._edges) & self._mask
        counts = self._count(edges)
        loads, nets = self._analysis.loads, cells.pins[kind.clock]
        wire = loads.wire[nets] / loads.fanout[nets]
        per_edge = 2 * self._switching(wire + kind.inputs[kind.clock])  # it rises and falls
        self._add("clock", cells, counts * per_edge[:, None])
        before = {pin: self._values[cells.pins[pin]] for pin in (*kind.inputs, *kind.outputs)}
        after = self._after(cells)
        rising = falling = edges
        if kind.is_gate:
            (output,) = kind.outputs
            passed = edges & before[kind.data]
            rising = falling = edges & ~passed
            for state in (before, after):
                state[output] = np.zeros_like(edges)
            for entry in kind.energies:
                if entry.pin == output:
                    rise, fall = self._table(cells, entry, kind.clock)
                    ups = self._count(passed & _condition(kind, entry.when, before))
                    downs = self._count(passed & _condition(kind, entry.when, after))
                    self._add("clock", cells, ups * rise[:, None] + downs * fall[:, None])
        for entry in kind.energies:
            if entry.pin == kind.clock and not entry.related:
                rise, fall = self._table(cells, entry, kind.clock)
                ups = self._count(rising & _condition(kind, entry.when, before))
                downs = self._count(falling & _condition(kind, entry.when, after))
                self._add("clock", cells, ups * rise[:, None] + downs * fall[:, None])

    def _leakage(self, cells: Cells) -> None:
        """Add leakage, by the states that the cells are in."""
        kind = cells.kind
        left = np.full((len(cells.unit), self._pieces), self._lengths)
        energy = np.zeros_like(left)
        always = np.full((len(cells.unit), self._values.shape[1]), ALL)
        for when, watts in kind.leakages:
            counts = self._in_states(cells, when, always)
            left = left - counts
            energy += counts * watts
        energy += np.maximum(left, 0) * kind.leakage
        self._add("leakage", cells, energy * self._period)


def _condition(kind: Cell, when: str, pins: Mapping[str, Words]) -> Words:
    """Return the cycles in which a condition holds; "" always does."""
    if not when:
        return ALL * np.ones_like(next(iter(pins.values())))
    found: Words = compile_expression(when)[0]({**pins, "0": np.uint64(0), "1": ALL})
    return found
