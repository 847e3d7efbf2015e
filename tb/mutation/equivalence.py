"""Equivalent mutants: proved by Yosys's SAT solver.

A module and its mutant are compared as logic between registers: the outputs of registers, memories
and submodules are free, and their inputs must be equal.
"""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

from loopnest_hw.memory_cells import black_boxes, replace_memories
from loopnest_sim.build import BuildError
from tb.mutation.mutants import Mutation, yosys

SECONDS = 60
"""For a proof."""

DEEP = 4
"""Levels of submodules that are searched for unused inputs."""


def is_equivalent(folder: Path, mutation: Mutation) -> bool:
    """Return whether the mutant of the folder's netlist is proved equivalent to the module."""
    text, kinds = replace_memories((folder / "netlist.il").read_text())
    (folder / "logic.il").write_text(text)
    (folder / "memories.v").write_text(black_boxes(kinds))
    # a bit whose inversion changes nothing is not used, whatever the mutation does to it
    inverted = replace(mutation, options=re.sub(r"^-mode \w+", "-mode inv", mutation.options))
    return _is_proved(folder, mutation) or _is_proved(folder, inverted)


def _is_proved(folder: Path, mutation: Mutation) -> bool:
    name = mutation.module
    for copy, change in (("gold", ()), ("gate", (f"mutate {mutation.options}",))):
        yosys(
            folder,
            "read_verilog memories.v",
            "read_rtlil logic.il",
            *change,
            # inputs that a submodule, or one inside it, does not use may differ
            *["opt_hier", "opt_clean"] * DEEP,
            f"select -module {name}",
            # cells only: wires between them may differ
            "expose -evert c:*",
            "memory_map",
            "expose -evert-dff c:*",
            "select -clear",
            f"rename {name} {copy}",
            f"select {copy}",
            f"write_rtlil -selected {copy}.il",
        )
    try:
        yosys(
            folder,
            "read_rtlil gold.il",
            "read_rtlil gate.il",
            "miter -equiv -flatten -make_outputs gold gate miter",
            "hierarchy -top miter",
            # common logic is merged, above all multiplications
            "opt -full",
            "sat -verify -prove trigger 0 miter",
            seconds=SECONDS,
        )
    except (BuildError, subprocess.TimeoutExpired):
        return False
    return True
