"""The Liberty reader: statements, units, tables, wire loads and expressions."""

from itertools import product

import numpy as np
import pytest

from loopnest_hw.power.boolean import compile_expression
from loopnest_hw.power.cells import Table, read_library
from loopnest_hw.power.liberty import parse
from tests.hw.power.cells import library


def test_statements() -> None:
    root = parse(
        'library (l) { a : 1 ; b : "x y";\n  c (1, "2, 3") ;\n'
        '  group (g, "h") { values ("1, 2", \\\n "3, 4"); } // the end\n  d : 5\n  e : 6; }'
    )
    assert root.kind == "library" and root.arguments == ("l",)
    assert root.attributes == {"a": "1", "b": "x y", "c": "1,2, 3", "d": "5", "e": "6"}
    (group,) = root.groups
    assert group.arguments == ("g", "h")
    assert group.numbers("values").tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("text", ["", "library (l) { a b c }", "library (l) { } }"])
def test_not_a_library(text: str) -> None:
    with pytest.raises(ValueError, match="Liberty"):
        parse(text)


def test_library() -> None:
    found = read_library(library(gates=True))
    assert found.name == "small" and found.voltage == 1.1
    assert set(found.cells) == {"INV", "BUF", "NAND2", "DFF", "GATE"}
    nand = found.cells["NAND2"]
    assert nand.inputs == pytest.approx({"A": 1.5e-15, "B": 1.5e-15}, rel=1e-6, abs=0)
    assert nand.outputs == {"Y": "(!(A B))"}
    assert nand.leakage == pytest.approx(15e-9, rel=1e-6, abs=0)
    assert [entry.related for entry in nand.energies] == [("A",), ("B",)]
    # 0.6 fJ, by slew (ns) and load (fF)
    energy = nand.energies[0].rise.at(np.array([0.1]), np.array([10e-15]))
    assert energy == pytest.approx(0.6e-15 * 1.25, rel=1e-4, abs=0)
    flip_flop, gate = found.cells["DFF"], found.cells["GATE"]
    assert flip_flop.is_flip_flop and not flip_flop.is_gate
    assert (flip_flop.clock, flip_flop.data, flip_flop.state) == ("CK", "D", ("IQ", "IQN"))
    assert gate.is_gate and (gate.clock, gate.data) == ("CK", "E")


def test_wire_load() -> None:
    """Between the lengths of the table, and beyond them by the slope."""
    wires = read_library(library()).wire_load
    found = wires.at(np.array([0, 1, 2, 3, 4, 6])) * 1e15
    assert found == pytest.approx([0, 0.4, 1.0, 1.4, 1.8, 1.8 + 2 * 3 * 0.2])


def test_table() -> None:
    """Linear in both directions, and beyond the ends."""
    table = Table(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([[0.0, 2.0], [10.0, 12.0]]))
    slews, loads = np.array([0.5, 2.0, 0.0]), np.array([1.0, 0.0, 4.0])
    assert table.at(slews, loads).tolist() == [6.0, 20.0, 4.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!(A | (B & C))", lambda a, b, c: not (a or (b and c))),
        ("A B + C'", lambda a, b, c: (a and b) or not c),
        ("(A ^ B) * !C", lambda a, b, c: (a != b) and not c),
        ("A & B ^ C | A", lambda a, b, c: (a and (b != c)) or a),
        ("!A & 1 | 0", lambda a, b, c: not a),
    ],
)
def test_expressions(text: str, expected: object) -> None:
    assert callable(expected)
    function, pins = compile_expression(text)
    assert pins <= {"A", "B", "C"}
    for bits in product((0, 1), repeat=3):
        named = dict(zip("ABC", bits, strict=True)) | {"0": 0, "1": 1}
        assert function(named) & 1 == int(expected(*map(bool, bits)))


@pytest.mark.parametrize("text", ["", "A &", "(A", "A)", "& B"])
def test_not_an_expression(text: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        compile_expression(text)
