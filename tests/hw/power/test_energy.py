"""Energies by hand: a clock gate, a flip-flop behind it and an inverter."""

import numpy as np
import pytest

from loopnest_hw.power.cells import Cell, Energy, Library, Table, Transition, WireLoad
from loopnest_hw.power.energy import Analysis
from loopnest_hw.power.loads import CLOCK_SLEW_NS, INPUT_SLEW_NS
from loopnest_hw.power.netlist import Cells, Netlist
from loopnest_hw.power.replay import Words, evaluate, levels, mismatches, pack

FJ = 1e-15
VOLTAGE = 2.0
WIRE = 1 * FJ
CLOCK, ENABLE, GATED, DATA, STATE, OUT = range(2, 8)


def constant(fj: float) -> Table:
    return Table(np.zeros(1), np.zeros(1), np.array([[fj * FJ]]))


def by_slew(factor: float) -> Table:
    """Return a table of slews, in ns, that are those of the input times a factor."""
    axis = np.array([0.0, 1.0])
    return Table(axis, np.zeros(1), factor * axis[:, None])


GATE = Cell(
    "GATE",
    1.0,
    {"CK": 2 * FJ, "E": 1 * FJ},
    {"GCK": ""},
    0.0,
    [],
    [
        Energy("CK", (), "!GCK", constant(1), constant(2)),
        Energy("GCK", ("CK",), "E", constant(10), constant(20)),
        Energy("GCK", ("CK",), "!E", constant(100), constant(200)),
    ],
    [],
    "CK",
    "E",
)
FLIP_FLOP = Cell(
    "DFF",
    1.0,
    {"CK": 2 * FJ, "D": 1 * FJ},
    {"Q": "IQ"},
    1e-6,
    [("D & !CK", 3e-6), ("D & CK", 5e-6)],
    [
        Energy("CK", (), "!D & !Q | D & Q", constant(1000), constant(0)),
        Energy("CK", (), "D", constant(0), constant(2000)),
        Energy("Q", ("CK",), "", constant(10_000), constant(30_000)),
    ],
    [Transition("Q", "CK", "non_unate", by_slew(2), by_slew(3))],
    "CK",
    "D",
    ("IQ", "IQN"),
)
INVERTER = Cell(
    "INV",
    1.0,
    {"A": 1 * FJ},
    {"Y": "!A"},
    0.0,
    [],
    [],
    [Transition("Y", "A", "negative_unate", by_slew(10), by_slew(100))],
)
ENABLED = [0, 1, 1, 0, 1, 0, 0, 0]
HELD = [0, 1, 0, 0, 1, 1, 0, 0]


def words(bits: list[int]) -> Words:
    return pack(np.array([bits + bits[-1:] * (64 - len(bits))], np.uint8))[0]


@pytest.fixture
def netlist() -> Netlist:
    def cells(kind: Cell, **pins: int) -> Cells:
        return Cells(kind, {pin: np.array([net]) for pin, net in pins.items()}, np.array([0]))

    ports = {"clk": CLOCK, "enable": ENABLE, "data": DATA}
    return Netlist(
        8,
        [""],
        [
            cells(GATE, CK=CLOCK, E=ENABLE, GCK=GATED),
            cells(FLIP_FLOP, CK=GATED, D=DATA, Q=STATE),
            cells(INVERTER, A=STATE, Y=OUT),
        ],
        [],
        {name: np.array([net]) for name, net in ports.items()},
        {"out": np.array([OUT])},
        {},
    )


def analysis(netlist: Netlist) -> Analysis:
    wires = WireLoad(np.array([1.0]), np.array([WIRE]), WIRE)
    return Analysis(netlist, Library("hand", VOLTAGE, wires, {}), levels(netlist))


def test_energy(netlist: Netlist) -> None:
    values = np.zeros((netlist.nets, 1), np.uint64)
    values[ENABLE], values[DATA] = words(ENABLED), words(HELD)
    # loaded at the ends of cycles 1, 2 and 4
    values[STATE] = words([0, 0, 1, 0, 0, 1, 1, 1])
    evaluate(netlist, levels(netlist), values)
    assert list(mismatches(netlist, values, 8)) == []
    window = analysis(netlist).energy(values, 7, 1.0)
    half = VOLTAGE**2 / 2
    # of 7 edges, the gate passes 3; it is enabled after the first of these
    gate = 4 * (1 + 2) + 3 * 10 + 20 + 2 * 200
    # the state is the data before no passed edge; the data is 1 after that of cycle 4 alone
    flip_flop = 0 * 1000 + 2000
    loads = 2 * half * (7 * (2 + 1) + 3 * (2 + 1))
    assert window.parts["clock"].sum() / FJ == pytest.approx(gate + flip_flop + loads)
    toggles = 3
    logic = toggles * ((10_000 + 30_000) / 2 + half * (1 + 1) + half * (0 + 1))
    assert window.parts["logic"].sum() / FJ == pytest.approx(logic)
    # the data is 1 after the ends of cycles 0, 3 and 4: after an edge for half a cycle with CK
    leakage = 4 * 1 + 3 + 3 + (3 + 5) / 2
    assert window.parts["leakage"].sum() / FJ == pytest.approx(leakage)


def test_slews(netlist: Netlist) -> None:
    """A falling input makes the inverter's output rise."""
    rise, fall = analysis(netlist).slews
    assert rise[DATA] == INPUT_SLEW_NS
    assert (rise[STATE], fall[STATE]) == pytest.approx((2 * CLOCK_SLEW_NS, 3 * CLOCK_SLEW_NS))
    assert (rise[OUT], fall[OUT]) == pytest.approx((10 * fall[STATE], 100 * rise[STATE]))
