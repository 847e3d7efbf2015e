"""Mutants that change nothing: proved by Yosys's SAT solver.

A module and its mutant are compared as logic between registers: what the registers, the memories
and the submodules put out is free, and what goes into them must be the same.
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
"""Levels of submodules that are looked into for what is not read."""


def is_equivalent(folder: Path, mutation: Mutation) -> bool:
    """Return whether the mutant of the folder's netlist is proved to do what the module does."""
    text, kinds = replace_memories((folder / "netlist.il").read_text())
    (folder / "logic.il").write_text(text)
    (folder / "memories.v").write_text(black_boxes(kinds))
    # a bit that may as well be inverted is not read, whatever else becomes of it
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
            # what a submodule, or one in it, does not read need not be the same
            *["opt_hier", "opt_clean"] * DEEP,
            f"select -module {name}",
            # of cells alone: a wire between them may be another
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
            # what both do alike is one, above all multiplications
            "opt -full",
            "sat -verify -prove trigger 0 miter",
            seconds=SECONDS,
        )
    except (BuildError, subprocess.TimeoutExpired):
        return False
    return True
