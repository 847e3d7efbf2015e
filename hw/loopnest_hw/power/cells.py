"""The cells of a Liberty library as power analysis needs them: functions, loads, energies."""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .liberty import Group, parse

Numbers = NDArray[np.float64]

_PREFIX = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3}


@dataclass(frozen=True)
class Table:
    """A look-up table of a number by slew (ns) and load (F): linear between and beyond entries."""

    slews: Numbers
    loads: Numbers
    values: Numbers
    """Shape (slews, loads)."""

    def at(self, slew: Numbers, load: Numbers) -> Numbers:
        """Return the numbers for slews and loads of the same shape."""
        row, part = _place(self.slews, slew)
        column, share = _place(self.loads, load)
        last_row = np.minimum(row + 1, len(self.slews) - 1)
        last_column = np.minimum(column + 1, len(self.loads) - 1)
        v = self.values
        near = v[row, column] * (1 - share) + v[row, last_column] * share
        far = v[last_row, column] * (1 - share) + v[last_row, last_column] * share
        result: Numbers = near * (1 - part) + far * part
        return result


def _place(axis: Numbers, x: Numbers) -> tuple[NDArray[np.intp], Numbers]:
    """Return the interval of each number, and its place in it from 0 to 1."""
    if len(axis) == 1:
        return np.zeros(x.shape, np.intp), np.zeros(x.shape)
    at = np.clip(np.searchsorted(axis, x) - 1, 0, len(axis) - 2)
    return at, (x - axis[at]) / (axis[at + 1] - axis[at])


@dataclass(frozen=True)
class Energy:
    """Internal energy of a pin's transition, in joules.

    ``related`` are the pins whose transition causes it; of an input pin none, its own transition
    does. ``when`` is a condition on the other pins, "" if there is none.
    """

    pin: str
    related: tuple[str, ...]
    when: str
    rise: Table
    fall: Table


@dataclass(frozen=True)
class Transition:
    """Slew of an output after a transition of an input, in ns; ``sense`` as in Liberty."""

    pin: str
    related: str
    sense: str
    rise: Table
    fall: Table


@dataclass(frozen=True)
class Cell:
    """A kind of cell.

    Attributes
    ----------
    inputs : dict of str to float
        The input pins and their capacitances, F.
    outputs : dict of str to str
        The output pins and their functions; a flip-flop's are of its state (`state`).
    leakage : float
        Its average, in W.
    leakages : list of (str, float)
        Leakage under a condition on the pins.
    clock, data : str
        Of a flip-flop or a clock gate, the clock pin. Of a flip-flop, the function of its next
        state; of a clock gate, its enable.
    state : tuple of str
        Of a flip-flop, the names of its state and the state's inverse; "" each otherwise.
    """

    name: str
    area: float
    inputs: dict[str, float]
    outputs: dict[str, str]
    leakage: float
    leakages: list[tuple[str, float]]
    energies: list[Energy]
    transitions: list[Transition]
    clock: str = ""
    data: str = ""
    state: tuple[str, str] = ("", "")

    @property
    def is_gate(self) -> bool:
        """Whether it is a clock gate."""
        return bool(self.clock) and not self.state[0]

    @property
    def is_flip_flop(self) -> bool:
        """Whether it is a flip-flop."""
        return bool(self.state[0])


@dataclass(frozen=True)
class WireLoad:
    """Capacitance of a wire (F) by its number of loads."""

    fanouts: Numbers = field(default_factory=lambda: np.zeros(1))
    loads: Numbers = field(default_factory=lambda: np.zeros(1))
    slope: float = 0.0

    def at(self, fanout: NDArray[np.int64]) -> Numbers:
        """Return the capacitance of wires with these numbers of loads; 0 for none."""
        beyond = np.maximum(fanout - self.fanouts[-1], 0) * self.slope
        return np.where(fanout > 0, np.interp(fanout, self.fanouts, self.loads) + beyond, 0.0)


@dataclass(frozen=True)
class Library:
    """A library of standard cells, in volts, farads, joules, watts and nanoseconds."""

    name: str
    voltage: float
    wire_load: WireLoad
    cells: dict[str, Cell]


def read_library(text: str) -> Library:
    """Return the library of a Liberty file.

    Raises
    ------
    ValueError
        If it is not one, or its state cells are of a kind that this does not know.
    """
    root = parse(text)
    scales = _Scales(root)
    templates = {
        group.arguments[0]: group
        for kind in ("lu_table_template", "power_lut_template")
        for group in root.all(kind)
    }
    cells = {
        group.arguments[0]: _cell(group, scales, templates)
        for group in root.all("cell")
        if group.first("pin") is not None
    }
    return Library(
        root.arguments[0], root.number("nom_voltage", 1.0), _wire_load(root, scales), cells
    )


class _Scales:
    """The units of a library's numbers."""

    def __init__(self, root: Group) -> None:
        number, unit = root.attributes["capacitive_load_unit"].split(",")
        self.capacitance = float(number) * _PREFIX[unit.strip().lower()[0]]
        volts = _unit(root.attributes.get("voltage_unit", "1V"))
        self.energy = self.capacitance * volts**2
        self.leakage = _unit(root.attributes.get("leakage_power_unit", "1nW"))
        self.time = _unit(root.attributes.get("time_unit", "1ns")) / 1e-9


def _unit(text: str) -> float:
    """Return the value of a unit such as ``1nW`` in the unit without a prefix."""
    found = re.fullmatch(r"\s*([\d.]+)\s*([fpnum]?)[VWsA]\s*", text)
    if found is None:
        raise ValueError(f"Liberty unit {text!r}: expected a number and a unit")
    return float(found[1]) * _PREFIX.get(found[2], 1.0)


def _wire_load(root: Group, scales: _Scales) -> WireLoad:
    """Return the default wire-load model; one without capacitance if there is none."""
    name = root.attributes.get("default_wire_load")
    model = next((g for g in root.all("wire_load") if g.arguments[0] == name), None)
    if model is None:
        return WireLoad()
    unit = model.number("capacitance") * scales.capacitance
    points = sorted(tuple(map(float, p.split(","))) for p in model.lists["fanout_length"])
    fanouts, lengths = np.array(points).T
    return WireLoad(fanouts, lengths * unit, model.number("slope") * unit)


def _cell(group: Group, scales: _Scales, templates: dict[str, Group]) -> Cell:
    inputs: dict[str, float] = {}
    outputs: dict[str, str] = {}
    energies: list[Energy] = []
    transitions: list[Transition] = []
    clock = data = ""
    for pin in group.all("pin"):
        name = pin.arguments[0]
        if pin.attributes.get("direction") == "input":
            inputs[name] = pin.number("capacitance") * scales.capacitance
        elif pin.attributes.get("direction") == "output":
            outputs[name] = pin.attributes.get("function", "")
        if "clock_gate_clock_pin" in pin.attributes:
            clock = name
        if "clock_gate_enable_pin" in pin.attributes:
            data = name
        for power in pin.all("internal_power"):
            energies += _energies(name, power, scales, templates)
        for timing in pin.all("timing"):
            transitions += _transitions(name, timing, scales, templates)
    if "clock_gating_integrated_cell" not in group.attributes:
        clock = data = ""
    state = group.first("ff")
    states = ("", "")
    if state is not None and not {"clear", "preset"} & state.attributes.keys():
        clock, data = state.attributes["clocked_on"].strip("() "), state.attributes["next_state"]
        states = state.arguments[0], state.arguments[1]
    return Cell(
        group.arguments[0],
        group.number("area"),
        inputs,
        outputs,
        group.number("cell_leakage_power") * scales.leakage,
        [
            (leak.attributes["when"], leak.number("value") * scales.leakage)
            for leak in group.all("leakage_power")
            if "when" in leak.attributes
        ],
        energies,
        transitions,
        clock,
        data,
        states,
    )


def _energies(pin: str, power: Group, scales: _Scales, templates: dict[str, Group]) -> list[Energy]:
    """Return the energies of an ``internal_power`` group."""
    both = power.first("power")
    rise, fall = power.first("rise_power") or both, power.first("fall_power") or both
    if rise is None or fall is None:
        rise = fall = rise or fall
    if rise is None or fall is None:
        return []
    related = tuple(power.attributes.get("related_pin", "").split())
    tables = (_table(group, scales.energy, scales, templates) for group in (rise, fall))
    return [Energy(pin, related, power.attributes.get("when", ""), *tables)]


def _transitions(
    pin: str, timing: Group, scales: _Scales, templates: dict[str, Group]
) -> list[Transition]:
    """Return the slews of a ``timing`` group, one for each related pin."""
    rise, fall = timing.first("rise_transition"), timing.first("fall_transition")
    if rise is None or fall is None:
        return []
    tables = [_table(group, scales.time, scales, templates) for group in (rise, fall)]
    sense = timing.attributes.get("timing_sense", "non_unate")
    related = timing.attributes.get("related_pin", "").split()
    return [Transition(pin, name, sense, *tables) for name in related]


def _table(group: Group, unit: float, scales: _Scales, templates: dict[str, Group]) -> Table:
    """Return a table; its values get multiplied by the unit."""
    template = templates.get(group.arguments[0] if group.arguments else "", Group(""))
    axes: dict[str, Numbers] = {}
    order = []
    for n in (1, 2):
        kind = template.attributes.get(f"variable_{n}")
        if kind is None:
            continue
        source = group if f"index_{n}" in group.attributes else template
        axis = "loads" if "capacitance" in kind else "slews"
        scale = scales.capacitance if axis == "loads" else scales.time
        axes[axis] = source.numbers(f"index_{n}") * scale
        order.append(axis)
    values = group.numbers("values") * unit
    one = np.zeros(1)
    slews, loads = axes.get("slews", one), axes.get("loads", one)
    if order[:1] == ["loads"]:
        values = values.reshape(len(loads), len(slews)).T
    return Table(slews, loads, values.reshape(len(slews), len(loads)))
