"""The plan: which units are mutated in which designs.

A unit is a file of hw/loopnest_hw with modules of its own. Its bench is the one at the same path in
tb/ or, if there is none, the one with the smallest design that contains the unit.
"""

import json
import os
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from amaranth.lib import wiring

import tb.harness
from loopnest_hw.generate import to_rtlil
from loopnest_sim.build import digest
from tb.harness import Run

ROOT = Path(__file__).parent.parent.parent
UNITS = ROOT / "hw" / "loopnest_hw"

DESIGNS = 2
"""Number of designs of a unit's bench that its mutants are spread over: those that run most
often.
"""

TOOLS = ("coverage", "mutation")
"""Folders of tb/ without benches."""

LEAST = 2
"""Mutants of the smallest unit."""

_MODULE = re.compile(
    r'^attribute \\src "([^"]+):\d+"\n(?:attribute .*\n)*module \\(\S+)\n', re.MULTILINE
)
_SOURCE = re.compile(r'attribute \\src "[^"]*"')
_ELEMENT = re.compile(r"^ +(?:cell|case|assign) ", re.MULTILINE)


@dataclass
class Design:
    """A component as RTLIL, and the benches' runs of it."""

    text: str
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The top module and a hash, which ignores source locations."""
        return f"{self.runs[0].top}-{digest(_SOURCE.sub('', self.text))}"

    def modules(self) -> dict[str, list[tuple[str, int]]]:
        """Return the modules of each unit in it, with their sizes: cells and assignments."""
        found: dict[str, list[tuple[str, int]]] = {}
        heads = list(_MODULE.finditer(self.text))
        ends = [head.start() for head in heads[1:]] + [len(self.text)]
        for head, end in zip(heads, ends, strict=True):
            path = Path(head[1])
            if path.is_relative_to(UNITS):
                unit = str(path.relative_to(UNITS).with_suffix(""))
                size = len(_ELEMENT.findall(self.text, head.end(), end))
                found.setdefault(unit, []).append((head[2], size))
        return found


@dataclass
class Share:
    """Mutants of a unit in a design: its name, the unit's modules there, how many mutants."""

    unit: str
    design: str
    modules: list[str]
    count: int


def collect(modules: Sequence[str]) -> dict[str, Design]:
    """Return the designs that these benches (``tb.row.test_joiner``) run, by name."""
    designs: dict[str, Design] = {}

    def record(run: Run, component: wiring.Component) -> None:
        text = to_rtlil(component, run.top, emit_src=True)
        design = designs.setdefault(text, Design(text))
        if run not in design.runs:
            design.runs.append(run)

    paths = [str(ROOT / (module.replace(".", "/") + ".py")) for module in modules]
    if paths:
        tb.harness.recorder = record
        arguments = ["-q", "-n", "0", "-p", "no:cacheprovider", "-k", "verilator or whole_chip"]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            pytest.main([*arguments, *paths])
        tb.harness.recorder = None
    return {design.name: design for design in designs.values()}


def benches_of(designs: dict[str, Design]) -> dict[str, list[str]]:
    """Return the names of the designs in which each unit is mutated."""
    homes: dict[str, list[str]] = {}
    sizes = {name: len(design.text) for name, design in designs.items()}
    inside = {name: design.modules() for name, design in designs.items()}
    for unit in sorted({unit for units in inside.values() for unit in units}):
        holds = [name for name, units in inside.items() if unit in units]
        folder, _, last = unit.rpartition("/")
        bench = ".".join(filter(None, ("tb", folder, f"test_{last}")))
        own = [name for name in holds if designs[name].runs[0].module == bench]
        own.sort(key=lambda name: (-len(designs[name].runs), -sizes[name], name))
        homes[unit] = own[:DESIGNS] or [min(holds, key=lambda name: (sizes[name], name))]
    return homes


def shares(designs: dict[str, Design], count: int) -> list[Share]:
    """Spread `count` mutants over the units, by the square root of their size."""
    homes = benches_of(designs)
    modules = {unit: [designs[name].modules()[unit] for name in homes[unit]] for unit in homes}
    roots = {unit: sum(size for _, size in found[0]) ** 0.5 for unit, found in modules.items()}
    spread = []
    for unit, names in homes.items():
        wanted = max(LEAST, round(count * roots[unit] / sum(roots.values())))
        for number, name in enumerate(names):
            part = (wanted + number) // len(names)
            if part:
                spread.append(Share(unit, name, [m for m, _ in modules[unit][number]], part))
    return spread


def load(folder: Path) -> dict[str, Design]:
    """Return the designs of all benches, by name.

    They are stored in the folder, by bench, and reused until the RTL or the bench's text changes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rtl = digest(*(source.read_text() for source in sorted(UNITS.rglob("*.py"))))
    benches = sorted((ROOT / "tb").rglob("test_*.py"))
    kept = {
        _module_of(bench): folder / f"{_module_of(bench)}-{digest(rtl, bench.read_text())}.json"
        for bench in benches
        if bench.parent.name not in TOOLS and bench.name != "test_harness.py"
    }
    missing = [module for module, path in kept.items() if not path.exists()]
    found = collect(missing)
    for module in missing:
        of_bench = [asdict(d) for d in found.values() if d.runs[0].module == module]
        kept[module].write_text(json.dumps(of_bench))
    designs: dict[str, Design] = {}
    for path in kept.values():
        loaded: list[dict[str, Any]] = json.loads(path.read_text())
        for entry in loaded:
            design = Design(entry["text"], [Run(**run) for run in entry["runs"]])
            designs.setdefault(design.name, design)
    return designs


def _module_of(bench: Path) -> str:
    return ".".join(bench.relative_to(ROOT).with_suffix("").parts)
