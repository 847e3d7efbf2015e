"""What examples have in common: runs that are compared, and dense runs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from rich.console import Console

from loopnest.examples import gcn, graphchallenge
from loopnest.examples.checked import Checked, same_bits
from loopnest.examples.dense import DenseLayer, compare_energy
from loopnest.examples.figures import print_layers
from loopnest.report.run_energy import RunEnergy


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_same_bits(kind: Any) -> None:
    one = kind(np.array([[0, 1.5], [2, 0]], np.float32))
    other = kind(np.array([[0, 1.5], [-2, 0]], np.float32))
    assert same_bits(one, one.copy()) and not same_bits(one, other)


def test_elsewhere_is_not_the_same() -> None:
    one, other = (sp.csr_array(([1.0], ([0], [c])), (1, 2)) for c in (0, 1))
    assert not same_bits(one, other)


def test_errors() -> None:
    run: Any = Checked(SimpleNamespace(), SimpleNamespace(), {"y": np.array([1.0, 2.1])})  # type: ignore[type-var]
    assert np.isclose(run.error({"y": np.array([1.0, 2.08])}), 0.02 / 2.08) and not run.problems
    assert run.error({"y": np.array([1.0, 2.0])}) > 0.03
    assert run.problems == ["the results differ from those of float32 by 5.0%"]


class Counting:
    """Stands for a chip that takes a cycle for each multiply of the PE with the most rows, and a
    joule.
    """

    def __init__(self, pes: int) -> None:
        self.config = SimpleNamespace(pes=pes)

    def tensor(self, array: Any, levels: str) -> Any:
        assert levels == "dense,dense"
        return array

    def compute(self, statement: str, epilogue: Any = None, **operands: Any) -> None:
        left, right = operands.values()
        cycles = -(-left.shape[0] // self.config.pes) * left.shape[1] * right.shape[1]
        energy = RunEnergy({"clock": float(cycles)}, cycles, ("measured",))
        self.report = SimpleNamespace(cycles=cycles, energy=energy)
        self.computed = getattr(self, "computed", 0) + cycles


@pytest.mark.parametrize("pes", [1, 2])
def test_dense_layers_by_a_part_and_of_all(pes: int) -> None:
    """A rate gives what is measured, where cycles and energy are proportional; sources say it."""
    layers = graphchallenge.draw_network(3, 20)
    papers = gcn.train(gcn.draw_papers(300, 210), lambda: None)
    for module, network in ((graphchallenge, layers), (gcn, papers)):
        parts, whole = Counting(pes), Counting(pes)
        some = module.dense_layers(parts, network, measured=False)  # type: ignore[attr-defined]
        measured = module.dense_layers(whole, network, measured=True)  # type: ignore[attr-defined]
        cycles = [layer.cycles for layer in measured]
        assert np.allclose([layer.cycles for layer in some], cycles)
        assert np.allclose([layer.energy.total for layer in some], cycles)
        assert parts.computed < whole.computed == np.sum(cycles)
        assert all(layer.energy.sources == ("measured",) for layer in measured)
        assert any("estimated from" in layer.energy.sources[0] for layer in some)


def test_energy_beside_dense() -> None:
    """Layers are printed with their energy, and with that without zeros where it is known."""
    report: Any = SimpleNamespace(multiplies=10, cycles=5, roof_share=0.5, pe_roof_share=None)
    report.energy = RunEnergy({"clock": 2e-6}, 10, ("measured",))
    program: Any = SimpleNamespace(layers={"h": report})
    part: Any = SimpleNamespace(cycles=40, energy=RunEnergy({"clock": 3e-6}, 0, ("measured",)))
    dense = DenseLayer.of(part, 4, "1 of 4 images")
    assert dense is not None and dense.cycles == 160
    console = Console(width=120, record=True)
    print_layers(console, program, report, [dense])
    rows = [" ".join(line.split()) for line in console.export_text().split("\n")]
    assert "layer multiplies cycles roof PE roof energy dense cycles dense energy" in rows
    assert {"h 10 5 50% - 2 uJ 160 12 uJ", "all 10 5 50% - 2 uJ 160 12 uJ"} <= set(rows)
    line, figures = compare_energy(report, program.layers, [dense])
    assert line == "energy: 2 uJ; 12 uJ without zeros, 6x as much"
    assert figures["dense_energy"]["layers"]["h"]["total"] == pytest.approx(12e-6)
    assert figures["dense_energy"]["sources"][0] == "estimated from 1 of 4 images"
    report.energy = report.cycles = None
    print_layers(console, program, report)
    assert "h 10 - 50% - -" in " ".join(console.export_text().split())
    assert DenseLayer.of(report) is None
    assert compare_energy(report, program.layers, None) == ("", {"dense_energy": None})
