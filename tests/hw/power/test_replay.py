"""The replay equals a gate-level simulation: every net, in every cycle."""

from pathlib import Path

import numpy as np
import pytest

from loopnest_hw.power import replay
from loopnest_hw.power.energy import Analysis
from loopnest_hw.power.mapping import Mapped
from loopnest_hw.power.netlist import Netlist, split_bit
from loopnest_hw.power.replay import Words, cycle_mask, mismatches, start_nets
from loopnest_hw.power.start import start
from tests.hw.power.cells import library
from tests.hw.power.drive import toggling
from tests.hw.power.gate_level import flat_netlist, net_words, simulate
from tests.hw.power.units import Multiplier, map_unit

CYCLES = 500


@pytest.fixture(scope="module", params=[False, True], ids=["ungated", "gated"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Case":
    return Case(tmp_path_factory.mktemp("unit"), gates=request.param)


class Case:
    """A mapped unit, and its gate-level simulation with random inputs."""

    def __init__(self, folder: Path, *, gates: bool) -> None:
        self.mapped: Mapped = map_unit(Multiplier(), library(gates=gates), folder)
        self.flat: Netlist = flat_netlist(self.mapped, folder)
        names = [name for name in self.flat.inputs if name != "clk"]
        self.inputs = toggling(len(names), CYCLES, 0.5, np.random.default_rng(1))
        self.inputs[names.index("rst")] = np.arange(CYCLES) < 2
        recording = simulate(self.flat, self.inputs, folder)
        assert recording.cycles == CYCLES
        self.words = recording.words
        self.nets = net_words(self.flat, recording, self.inputs)
        self.mask = cycle_mask(CYCLES, self.words)


def test_every_net(case: Case) -> None:
    values = np.zeros((case.flat.nets, case.words), np.uint64)
    starts = start_nets(case.flat)
    clocks = {int(n) for c in case.flat.cells if c.kind.clock for n in c.pins[c.kind.clock]}
    for net in starts.tolist():
        if net not in clocks:
            values[net] = case.nets[net]
    order = replay.levels(case.flat)
    replay.evaluate(case.flat, order, values)
    compared = sorted(case.nets.keys() - set(starts.tolist()) - clocks)
    assert len(compared) > 100
    recorded = np.stack([case.nets[net] for net in compared])
    assert not ((values[compared] ^ recorded) & case.mask).any()
    assert list(mismatches(case.flat, values, CYCLES)) == []
    # a register's value that is not the one which follows is found
    state = next(c for c in case.flat.cells if c.kind.is_flip_flop)
    values[state.pins["Y"][0], 1] ^= np.uint64(1 << 5)
    assert list(mismatches(case.flat, values, CYCLES)) != []


def test_units(case: Case) -> None:
    """The netlist with its units takes the same energy as that without."""
    names = {name: n for n, name in enumerate(name for name in case.flat.inputs if name != "clk")}
    ports = {name: int(nets[0]) for name, nets in case.flat.outputs.items()}

    def find(unit: str, name: str, bit: int) -> Words | None:
        port = name if bit == 0 and name in (*names, *ports) else f"{name}[{bit}]"
        if unit or port not in (*names, *ports):
            return None
        return case.nets[int(case.flat.inputs[port][0]) if port in names else ports[port]]

    whole = start(case.mapped.netlist, case.mapped.order, find, case.words)
    assert whole.inferred == 12  # the registers of the factors; the others are outputs
    # before the factors are first loaded, the inferred registers may differ
    wrong = dict(mismatches(case.mapped.netlist, whole.values, CYCLES))
    assert max(wrong.values(), default=0) < 10
    window = case.mapped.analysis.energy(whole.values, CYCLES - 1, 2.0)
    flat = np.zeros((case.flat.nets, case.words), np.uint64)
    for net, words in case.nets.items():
        flat[net] = words
    order = replay.levels(case.flat)
    replay.evaluate(case.flat, order, flat)
    expected = Analysis(case.flat, case.mapped.library, order).energy(flat, CYCLES - 1, 2.0)
    assert abs(window.total() / expected.total() - 1) < 0.01
    (units,) = np.nonzero(window.parts["logic"].sum(axis=1))
    assert {case.mapped.netlist.units[unit] for unit in units} == {"", "product"}
    for part in ("clock", "leakage"):
        ratio = window.parts[part].sum() / expected.parts[part].sum()
        assert ratio == pytest.approx(1, rel=0.01)


def test_pieces(case: Case) -> None:
    """The energies of a window's pieces add up."""
    values = np.random.default_rng(1).integers(
        0, 1 << 64, (case.mapped.netlist.nets, case.words), np.uint64
    )
    energy = case.mapped.analysis.energy
    whole, pieces = energy(values, CYCLES - 1, 2.0), energy(values, CYCLES - 1, 2.0, 2)
    for part in whole.parts:
        assert pieces.parts[part].shape[1] == 4
        np.testing.assert_allclose(pieces.parts[part].sum(axis=1), whole.parts[part][:, 0])


def test_split_bit() -> None:
    assert split_bit("a[3][12]") == ("a[3]", 12)
    assert split_bit("a") == ("a", 0)
