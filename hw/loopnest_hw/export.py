"""Writes a chip as Verilog, with its definitions for software.

``python -m loopnest_hw.export --preset single --dtype bf16 --output build/verilog`` writes

- ``loopnest.v``: the chip, top module ``loopnest``, in Verilog-2005 that means the same as
  SystemVerilog;
- ``loopnest.vlt``: Verilator's waivers for it, with reasons;
- ``loopnest.json``, ``loopnest.h``: parameters, registers, error codes and descriptor fields.

``--docs`` writes the tables of docs/registers.md instead. Same input, same bytes.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .chip.chip import Chip
from .config import PRESETS, ChipConfig, NumberFormat, make_config, parse_overrides
from .definitions import c_header, definitions_json, registers_markdown
from .generate import to_verilog
from .modules import share_modules
from .pe import PE
from .port_registers import PortRegisters
from .processes import start_processes
from .program import program

TOP = "loopnest"
"""The chip's top module."""

PE_TOP = "loopnest_pe"
"""The top module of a PE alone."""

DOCS = Path("docs/registers.md")

WAIVERS = (
    ("DECLFILENAME", "all modules are in one file"),
    ("UNUSEDSIGNAL", "every member of a bundle has a wire of its name, used or not"),
    ("PROCASSINIT", "registers have an initial value besides their reset"),
    ("CASEINCOMPLETE", "an assignment before the case is its default"),
    ("WIDTHEXPAND", "narrower operands are extended by their type, as intended"),
    ("WIDTHTRUNC", "! of a vector means == 0"),
    ("ASCRANGE", "unused wires of no bits, declared [-1:0]"),
    ("VARHIDDEN", "a signal may have the name of an instance in the module above"),
)
"""Verilator's lint rules that the generated Verilog violates, and why each violation is
harmless.
"""


def chip_verilog(config: ChipConfig) -> str:
    """Return the Verilog of the chip, top module `TOP`, for Verilator and for synthesis.

    Other simulators want what `write_files` writes: `processes.start_processes` of it.
    """
    return share_modules(to_verilog(Chip(config), TOP), TOP)


def pe_verilog(config: ChipConfig, top: str = PE_TOP) -> str:
    """Return the Verilog of one PE alone, for timing and area."""
    return to_verilog(PE(config), top)


def surroundings_verilog(config: ChipConfig, top: str) -> str:
    """Return the Verilog of the chip with registers for its PEs (`PortRegisters`), likewise."""
    chip = Chip(config, pe=lambda config: PortRegisters(PE.ports(config)))
    return share_modules(to_verilog(chip, top), top)


def lint_waivers() -> str:
    """Return Verilator's configuration file for the Verilog of this module."""
    lines = ["`verilator_config", ""]
    for rule, reason in WAIVERS:
        lines += [f"// {reason}", f"lint_off -rule {rule}"]
    return "\n".join(lines) + "\n"


def write_files(config: ChipConfig, folder: Path) -> list[Path]:
    """Write the chip's files and return their paths; the Verilog, the last one, takes half a
    minute.

    Raises
    ------
    ValueError, OSError
        Before anything is written, if one of them can't be.
    """
    texts: dict[str, Callable[[], str]] = {
        "loopnest.vlt": lint_waivers,
        "loopnest.json": lambda: definitions_json(config),
        "loopnest.h": lambda: c_header(config),
        "loopnest.v": lambda: start_processes(chip_verilog(config)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / name for name in texts):  # before the time is spent
        if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
            raise ValueError(f"{path}: expected a writable file")
    for name, text in texts.items():
        (folder / name).write_text(text())
    return [folder / name for name in texts]


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="loopnest_hw.export", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="single")
    parser.add_argument("--dtype", choices=[f.value for f in NumberFormat], default="bf16")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=NUMBER", help="override a parameter"
    )
    parser.add_argument("--output", type=Path, default=Path("build/verilog"), metavar="FOLDER")
    parser.add_argument(
        "--docs",
        type=Path,
        nargs="?",
        const=DOCS,
        metavar="FILE",
        help=f"write the tables of {DOCS} and nothing else",
    )
    options = parser.parse_args(arguments)
    try:
        if options.docs:
            options.docs.write_text(registers_markdown(make_config()))
            return 0
        config = make_config(options.preset, options.dtype, **parse_overrides(options.set))
        print(*write_files(config, options.output), sep="\n")
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
