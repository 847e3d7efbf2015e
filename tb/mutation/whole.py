"""Mutants of a unit inside the whole chip.

There a module has other names, and often other sizes. A cell's counterpart is the one of the same
kind and size, from the same source line, at the same place among those; if a unit has several
instances, each gets the fault.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tb.mutation.mutants import Mutation, finish_text, switch, yosys

_HEAD = re.compile(r'^attribute \\src "([^"]+):\d+"\n(?:attribute .*\n)*module (\S+)\n', re.M)
_CELL = re.compile(r'^(?:  attribute \\src "([^"]*)"\n)?  cell (\S+) (\S+)\n((?: {4}.*\n)*)', re.M)
_OPTION = re.compile(r"-(module|cell) \S+")

Key = tuple[str, ...]
"""A cell's source line, kind and parameters, and its place among equal ones."""


@dataclass
class Module:
    """A module of a netlist: the source that it is from, and its cells by key and by name."""

    source: str
    by_key: dict[Key, str] = field(default_factory=dict)
    by_name: dict[str, Key] = field(default_factory=dict)


def read_modules(netlist: str) -> dict[str, Module]:
    """Return the modules of a netlist in RTLIL, by name."""
    modules = {}
    for head in _HEAD.finditer(netlist):
        module = modules[head[2]] = Module(head[1])
        body = netlist[head.end() : netlist.index("\nend\n", head.end())]
        alike: Counter[Key] = Counter()
        for source, kind, name, lines in _CELL.findall(body):
            sizes = [line for line in lines.splitlines() if line.startswith("    parameter ")]
            key = (source, kind, *sizes)
            alike[key] += 1
            key = (*key, str(alike[key]))
            module.by_key[key] = name
            module.by_name[name] = key
    return modules


def counterparts(
    unit: dict[str, Module], mutation: Mutation, chip: dict[str, Module]
) -> Iterator[Mutation]:
    """Yield the mutation at each of its places in the chip."""
    module = unit[_named(mutation.module)]
    key = module.by_name[_named(mutation.cell)]
    for name, other in chip.items():
        if other.source == module.source and key in other.by_key:
            yield replace(mutation, options=_moved(mutation.options, name, other.by_key[key]))


def write_chip_mutants(folder: Path, mutants: Sequence[Sequence[Mutation]]) -> str:
    """Return the folder's netlist as Verilog, in which ``+mutant=N`` enables the N-th mutant, from
    1 on, at all of its places.
    """
    commands = [
        switch(number, mutation) for number, places in enumerate(mutants, 1) for mutation in places
    ]
    yosys(folder, "read_rtlil netlist.il", *commands, "write_verilog -norename mutants.v")
    return finish_text((folder / "mutants.v").read_text())


def _named(name: str) -> str:
    """Return a name as RTLIL writes it."""
    return name if name.startswith("$") else f"\\{name}"


def _moved(options: str, module: str, cell: str) -> str:
    """Return a mutation's options with another module and another cell."""
    names = {"module": module.removeprefix("\\"), "cell": cell.removeprefix("\\")}
    return _OPTION.sub(lambda found: f"-{found[1]} {names[found[1]]}", options)
