"""Reading a netlist: nets through the hierarchy."""

import json
from pathlib import Path
from typing import Any

import pytest

from loopnest_hw.power.cells import read_library
from loopnest_hw.power.netlist import ONE, Netlist, read_netlist
from tests.hw.power.cells import library


def port(direction: str, bit: int | str) -> dict[str, Any]:
    return {"direction": direction, "bits": [bit]}


def cell(kind: str, **pins: int | str) -> dict[str, Any]:
    return {"type": kind, "connections": {pin: [bit] for pin, bit in pins.items()}}


def read(modules: dict[str, Any], folder: Path) -> Netlist:
    file = folder / "netlist.json"
    file.write_text(json.dumps({"modules": {n: {"netnames": {}} | m for n, m in modules.items()}}))
    return read_netlist(file, "top", read_library(library()))


def test_outputs_that_are_inputs(tmp_path: Path) -> None:
    """A unit passes its input on, has a constant, and drives two ports by one cell."""
    inner = {
        "ports": {
            "i": port("input", 2),
            "same": port("output", 2),
            "one": port("output", "1"),
            "o": port("output", 3),
            "again": port("output", 3),
        },
        "cells": {"inv": cell("INV", A=2, Y=3)},
    }
    pins = {"i": 2, "same": 3, "one": 4, "o": 5, "again": 6}
    top = {
        "ports": {"i": port("input", 2), "o": port("output", 7)},
        "cells": {
            "inner": cell("inner", **pins),
            "nand": cell("NAND2", A=3, B=4, Y=7),
            "also": cell("NAND2", A=5, B=6, Y=8),
        },
        "netnames": {"i": {"bits": [2], "hide_name": 0}},
    }
    found = read({"top": top, "inner": inner}, tmp_path)
    assert found.units == ["", "inner"]
    by_kind = {cells.kind.name: cells for cells in found.cells}
    nand, inverter = by_kind["NAND2"], by_kind["INV"]
    (source,) = found.inputs["i"]
    assert inverter.pins["A"].tolist() == [source]
    assert nand.pins["A"].tolist()[0] == source and nand.pins["B"].tolist()[0] == ONE
    assert [nand.pins[pin].tolist()[1] for pin in "AB"] == inverter.pins["Y"].tolist() * 2
    assert inverter.unit.tolist() == [1] and nand.unit.tolist() == [0, 0]
    assert found.names[int(source)] == [(0, "i")]


@pytest.mark.parametrize("kind", ["$_AND_", "missing"])
def test_cells_that_are_not_mapped(kind: str, tmp_path: Path) -> None:
    top = {"ports": {"i": port("input", 2)}, "cells": {"c": cell(kind, A=2)}}
    with pytest.raises(ValueError, match=r"not mapped to the library|not in the library"):
        read({"top": top}, tmp_path)
