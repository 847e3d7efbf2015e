"""Energy of a window by unit."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from loopnest.power.units import by_unit, kind_of, unit_table

PATHS = [
    "",
    "leaf/lanes/lane_0/op1$65/multiplier/unit",
    "leaf/lanes/lane_1/op1$65/multiplier/unit",
    "leaf/lanes/lane_1/op1$65/multiplier",
    "accumulator",
]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", ""),
        (PATHS[1], "leaf/lanes/lane_*/op1/multiplier"),
        ("combiner/adders/adder_0_12", "combiner/adders/adder_*_*"),
        ("leaf/dot/fiber_1_0$166", "leaf/dot/fiber_*_*"),
        ("leaf_row/joiner", "leaf_row/joiner"),
    ],
)
def test_kinds(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_by_unit() -> None:
    """All energy but leakage is some unit's; instances of a unit are one."""
    rng = np.random.default_rng(1)
    logic, clock, leakage, memories = rng.random((4, len(PATHS), 3))
    netlist: Any = SimpleNamespace(units=PATHS)
    window: Any = SimpleNamespace(parts={"logic": logic, "clock": clock, "leakage": leakage})
    units = by_unit(netlist, window, memories)
    assert list(units) == ["", "leaf/lanes/lane_*/op1/multiplier", "accumulator"]
    assert units["leaf/lanes/lane_*/op1/multiplier"] == pytest.approx(
        {"logic": logic[1:4].sum(), "clock": clock[1:4].sum(), "SRAM": memories[1:4].sum()}
    )
    total = sum(sum(own.values()) for own in units.values())
    assert total == pytest.approx(logic.sum() + clock.sum() + memories.sum())


def test_table() -> None:
    """The largest first, small ones as one, and all; per multiply."""
    units = {
        "small": {"logic": 0.1e-12, "clock": 0.0, "SRAM": 0.0},
        "": {"logic": 20e-12, "clock": 0.0, "SRAM": 0.0},
        "leaf": {"logic": 10e-12, "clock": 30e-12, "SRAM": 5e-12},
    }
    console = Console(width=100, record=True)
    console.print(unit_table("dense", units, 10))
    lines = (" ".join(line.split()) for line in console.export_text().split("\n"))
    assert [line for line in lines if line.endswith(tuple("0123456789"))] == [
        "leaf 1.00 3.00 0.50 4.50",
        "connections 2.00 0.00 0.00 2.00",
        "1 others 0.01 0.00 0.00 0.01",
        "all 3.01 3.00 0.50 6.51",
    ]
