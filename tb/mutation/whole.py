"""Mutants of a unit inside the whole chip.

A module of the unit's design is looked up in the chip's design: it is the same if it differs in
nothing but its name, its submodules' names and which of its signals are ports. All instances in the
chip get the mutant.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from loopnest_sim.build import digest
from tb.mutation.mutants import Mutation, finish_text, switch, write_netlist, yosys
from tb.mutation.plan import Design

_MODULE = re.compile(r"^module \\(\S+)\n(.*?)^end\n", re.MULTILINE | re.DOTALL)
_SOURCE = re.compile(r"^ *attribute .*\n", re.MULTILINE)
_WIRE = re.compile(r"^ *(wire (?:width \d+ |signed )*)(?:(?:input|output) \d+ +)?(\S+)\n+", re.M)
_INSTANCE = re.compile(r"^( +cell )\\(\S+)( )", re.MULTILINE)


def forms(text: str) -> dict[str, str]:
    """Return a hash for each module of a design in RTLIL: the same for those that do the same."""
    bodies = {found[1]: _without_ports(found[2]) for found in _MODULE.finditer(text)}
    known: dict[str, str] = {}

    def form(name: str) -> str:
        if name not in known:
            body = _INSTANCE.sub(lambda m: f"{m[1]}{form(m[2])}{m[3]}", bodies[name])
            known[name] = digest(body) if name in bodies else name
        return known[name]

    return {name: form(name) for name in bodies}


def _without_ports(body: str) -> str:
    """Return a module's wires, in order of their names, and its cells."""
    wires: list[str] = []

    def take(found: re.Match[str]) -> str:
        wires.append(found[1] + found[2])
        return ""

    rest = _WIRE.sub(take, _SOURCE.sub("", body))
    return "\n".join([*sorted(wires), rest])


def places(design: Design, module: str, chip: Design) -> list[str]:
    """Return the chip's modules that are the same as one of a unit's design."""
    wanted = forms(design.text)[module]
    return [name for name, form in forms(chip.text).items() if form == wanted]


def write_chip_mutants(
    folder: Path,
    chip: Design,
    mutants: Sequence[tuple[Design, Path, Mutation]],
) -> str:
    """Return a chip as Verilog, in which ``+mutant=N`` switches on the N-th mutation, from 1 on.

    Parameters
    ----------
    mutants : sequence of (design, folder, mutation)
        The unit's design, the folder with its netlist, the mutation. Those of one module have to
        be in the same design.
    """
    if not (folder / "netlist.il").exists():
        write_netlist(folder, chip.text)
    text = (folder / "netlist.il").read_text()
    of_chip = forms(chip.text)
    for design in {design.name: design for design, _, _ in mutants}.values():
        mine = [
            (number, mutation)
            for number, (other, _, mutation) in enumerate(mutants, 1)
            if other.name == design.name
        ]
        home = next(home for other, home, _ in mutants if other.name == design.name)
        commands = [switch(number, mutation) for number, mutation in mine]
        yosys(home, "read_rtlil netlist.il", *commands, "write_rtlil mutants.il")
        of_unit = forms(design.text)
        changed = {m[1]: m[0] for m in _MODULE.finditer((home / "mutants.il").read_text())}
        for module in {mutation.module for _, mutation in mine}:
            for name in [name for name, form in of_chip.items() if form == of_unit[module]]:
                text = _replace(text, name, module, changed[module])
    (folder / "mutants.il").write_text(text)
    yosys(folder, "read_rtlil mutants.il", "write_verilog -norename mutants.v")
    return finish_text((folder / "mutants.v").read_text())


def _replace(chip: str, name: str, module: str, changed: str) -> str:
    """Put a unit's module in the place of the chip's, with the chip's submodules."""
    start = chip.index(f"module \\{name}\n")
    end = chip.index("\nend\n", start) + len("\nend\n")
    inside = dict(_cells(chip[start:end]))
    text = changed.replace(f"module \\{module}\n", f"module \\{name}\n", 1)

    def rename(found: re.Match[str]) -> str:
        instance = text[found.end() : text.index("\n", found.end())]
        return f"{found[1]}\\{inside[instance]}{found[3]}"

    return chip[:start] + _INSTANCE.sub(rename, text) + chip[end:]


def _cells(module: str) -> list[tuple[str, str]]:
    """Return the name and the type of each instance in a module."""
    return [
        (module[found.end() : module.index("\n", found.end())], found[2])
        for found in _INSTANCE.finditer(module)
    ]
