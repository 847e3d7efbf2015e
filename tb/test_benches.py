"""Every unit has a bench: at its own path or, if it is only a part, that of the unit that uses
it.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
from amaranth.lib import wiring

import loopnest_hw

BENCHES = Path(__file__).parent

ELSEWHERE = {
    "arith.adder": "arith/test_presence.py",
    "arith.multiplier": "arith/test_presence.py",
    "cache.epoch": "cache/test_cache.py",
    "cache.misses": "cache/test_cache.py",
    "cache.window": "cache/test_crossbar.py",
    "dispatch.held": "dispatch/test_distributor.py",
    "dispatch.level": "dispatch/test_weigher.py",
    "dispatch.pairs": "dispatch/test_weigher.py",
    "leaf.lane": "leaf/test_lanes.py",
}
"""Modules whose units are tested by another bench."""


def units() -> set[str]:
    """Return the modules of loopnest_hw that have units of their own."""
    names = set()
    for info in pkgutil.walk_packages(loopnest_hw.__path__, "loopnest_hw."):
        for member in vars(importlib.import_module(info.name)).values():
            is_unit = inspect.isclass(member) and issubclass(member, wiring.Component)
            if is_unit and member.__module__ == info.name:
                names.add(info.name.removeprefix("loopnest_hw."))
    return names


@pytest.mark.parametrize("unit", sorted(units()))
def test_bench(unit: str) -> None:
    folder, _, name = unit.rpartition(".")
    own = BENCHES / folder.replace(".", "/") / f"test_{name}.py"
    assert own.exists() != (unit in ELSEWHERE)
    assert own.exists() or (BENCHES / ELSEWHERE[unit]).exists()


def test_no_unused_entries() -> None:
    assert set(ELSEWHERE) <= units()
