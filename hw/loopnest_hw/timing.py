"""Area and clock of a PE in a standard-cell library: ``make timing LIBERTY=cells.lib``; or of all
else in a chip.

Yosys maps the design to the library's cells and keeps its hierarchy, with memories as cells of
their own (`memory_cells`); ABC sizes and buffers; OpenSTA analyses the timing. Nothing is placed: a
wire's load is from the library's wire-load model, or 0 if it has none.
"""

import argparse
import gzip
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import PRESETS, NumberFormat, make_config, parse_overrides
from .export import pe_verilog, surroundings_verilog
from .memory_cells import black_boxes, liberty, parse_name, replace_memories
from .program import program
from .yosys import Unit, count_cells, find_yosys, run

DEFAULT_LIBERTY = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""The library of Debian's package ``qflow-tech-osu018``."""

TARGET_PERIOD_NS = 2.0
"""The clock that ABC sizes for and slack is measured against."""

PATHS = 20_000
"""Number of endpoints whose paths are reported."""

OUTPUT_LOAD_FF = 10

MAPPING = (
    "strash; ifraig; scorr; dc2; strash; "
    # first the shortest depth in 6-input tables, whatever it costs; `map` recovers area in it
    "&get -n; &st; &if -g -K 6; &put; dch; map -B 0.9 -a; "
    "topo; buffer -c -N 16; topo; upsize -D {period}; dnsize -D {period}"
)
"""ABC's script for logic. Yosys's own script does not optimise depth before it sizes cells."""

ENABLES = "strash; map -a; topo; buffer -c -N 16; topo; upsize -D {period}; dnsize -D {period}"
"""ABC's script for the flip-flops' enables, which are mapped after all other logic.

ABC assumes that all inputs of a unit arrive at the same time. It would move a pipeline's enable,
which arrives late from other units, into the pipeline's logic wherever that saves a gate.
"""

ENABLED, HIDDEN = "\\$_DFFE_PP_ ", "\\enabled_flip_flop "
"""A flip-flop with an enable, and its name while ABC maps the logic.

Yosys would have ABC map the logic of every enable by itself.
"""

GATED_FLIP_FLOPS = 4
"""Flip-flops with one enable from which on they share a clock gate, if the library has gates: fewer
take multiplexers, which are smaller then."""


@dataclass(frozen=True)
class Area:
    """Cells, area and memory bits of a unit, including the units below it."""

    unit: str
    cells: int
    area: float
    memory_bits: int


@dataclass(frozen=True)
class TimingPath:
    """The worst path to an endpoint: where it starts and ends, and its slack."""

    start: str
    end: str
    slack_ns: float


def find_sta() -> str:
    """Return the OpenSTA program.

    Raises
    ------
    RuntimeError
        If there is none.
    """
    found = shutil.which("sta")
    if found is None:
        raise RuntimeError(
            "OpenSTA (sta) was not found: apt-get install opensta, or --area for the areas alone"
        )
    return found


def split_cells(library: str) -> list[tuple[str, str]]:
    """Return the names of a Liberty library's cells, each with the text that describes it."""
    cells = re.split(r"\n\s*cell\s*\(\s*\"?", library)[1:]
    return [(re.split(r"[\s\")]", cell)[0], cell) for cell in cells]


def cell_areas(library: str) -> dict[str, float]:
    """Return the area of every cell of a Liberty library, by name."""
    found = (
        (name, re.search(r"\barea\s*:\s*([\d.]+)", cell)) for name, cell in split_cells(library)
    )
    return {name: float(area.group(1)) for name, area in found if area}


def find_buffer(library: str) -> str:
    """Return the name of a small buffer of a Liberty library, which drives the inputs.

    Raises
    ------
    ValueError
        If no cell is a buffer.
    """
    buffers = []
    for name, cell in split_cells(library):
        inputs = re.findall(
            r"\bpin\s*\(\s*\"?(\w+)\"?\s*\)\s*\{(?:(?!\bpin\s*\().)*?direction\s*:\s*\"?input",
            cell,
            re.DOTALL,
        )
        functions = re.findall(r"\bfunction\s*:\s*\"\s*\(?\s*(\w+)\s*\)?\s*\"", cell)
        area = re.search(r"\barea\s*:\s*([\d.]+)", cell)
        tristate = "three_state" in cell
        if area and len(inputs) == 1 and functions == inputs and not tristate:
            buffers.append((float(area.group(1)), name))
    if not buffers:
        raise ValueError(
            "the Liberty library has no buffer: expected one whose output is its input"
        )
    return min(buffers)[1]


def clock_gates(library: str) -> str:
    """Return the Yosys command that gates clocks with a library's cells; "" if it has none."""
    if "clock_gating_integrated_cell" not in library:
        return ""
    return f"clockgate -liberty cells.lib -min_net_size {GATED_FLIP_FLOPS}; "


def synthesize(verilog: Path, top: str, folder: Path, *, json_netlist: bool = False) -> list[Area]:
    """Map a design to the library ``cells.lib`` in `folder`.

    Writes ``netlist.v`` and ``memories.lib``, and ``netlist.json`` if asked for; returns the area
    of every unit, the top first, below it by hierarchy.
    """
    yosys = find_yosys()
    library = (folder / "cells.lib").read_text(errors="replace")
    shutil.copyfile(verilog, folder / "design.v")
    script = (
        # initial values have no meaning in silicon
        f"read_verilog design.v; hierarchy -check -top {top}; proc; opt_expr; opt_clean; opt_dff; "
        # a port for each enable in the Verilog becomes one port with enables
        "opt_clean; memory_share -nosat -nowiden; opt_reduce t:$memwr_v2 %ci3; memory_collect; "
        "memory_dff; opt_clean; attrmap -remove init -remove src; write_rtlil memories.il"
    )
    run([yosys, "-q", "-p", script], folder)
    rtlil, kinds = replace_memories((folder / "memories.il").read_text())
    (folder / "logic.il").write_text(rtlil)
    (folder / "memories.v").write_text(black_boxes(kinds))
    (folder / "memories.lib").write_text(liberty(kinds))
    (folder / "abc.constr").write_text(
        f"set_driving_cell {find_buffer(library)}\nset_load {OUTPUT_LOAD_FF}\n"
    )
    period = round(1000 * TARGET_PERIOD_NS)
    for name, commands in (("logic", MAPPING), ("enables", ENABLES)):
        (folder / f"{name}.abc").write_text(commands.format(period=period) + "\n")
    for name, old, new in (("hide", ENABLED, HIDDEN), ("show", HIDDEN, ENABLED)):
        (folder / f"{name}.v").write_text(
            f"module {old} (input D, C, E, output Q); "
            f"{new} _TECHMAP_REPLACE_ (.D(D), .C(C), .E(E), .Q(Q)); endmodule\n"
        )
    abc = "abc -liberty cells.lib -constr abc.constr -script"
    script = (
        "read_verilog -lib memories.v; read_rtlil logic.il; "
        f"hierarchy -check -top {top}; opt -fast; wreduce; peepopt; alumacc; opt -fast; "
        "memory_map; attrmap -remove init; opt -fast; techmap; opt -fast; "
        # a reset becomes a gate before the data, and keeps the flip-flop's enable
        "dfflegalize -cell $_DFF_P_ x -cell $_DFFE_PP_ x -cell $_SDFF_PP?_ x "
        "-cell $_SDFFCE_PP?P_ x; dffunmap -srst-only; "
        "dfflegalize -cell $_DFF_P_ x -cell $_DFFE_PP_ x; opt_expr; opt_merge; opt_clean -purge; "
        f"{clock_gates(library)}"
        # flip-flops are found by their signals' names in the paths
        "rename -wire; techmap -map hide.v; dfflibmap -liberty cells.lib; "
        f"{abc} logic.abc; techmap -map show.v; "
        # a library without enables: multiplexers, which are all that is not mapped yet
        f"dfflibmap -liberty cells.lib; {abc} enables.abc t:$_*; "
        "setundef -zero; splitnets -ports; opt_clean -purge; "
        "tee -q -o area.json stat -json; "
        "write_verilog -noattr -noexpr -nohex -nodec netlist.v"
        f"{'; write_json netlist.json' if json_netlist else ''}"
    )
    run([yosys, "-q", "-p", script], folder)
    statistics = json.loads((folder / "area.json").read_text())
    return count_areas(statistics, top, cell_areas(library))


def count_areas(statistics: dict[str, Any], top: str, sizes: dict[str, float]) -> list[Area]:
    """Return the area of every unit from Yosys's statistics and the cells' areas."""
    return [measure(unit, sizes) for unit in count_cells(statistics, top)]


def measure(unit: Unit, sizes: dict[str, float]) -> Area:
    """Return the area of a unit from the cells' areas."""
    cells, area, bits = 0, 0.0, 0
    for name, count in unit.cells.items():
        memory = parse_name(name)
        if memory:
            bits += count * memory.bits
        else:
            cells += count
            area += count * sizes.get(name, 0.0)
    return Area(unit.name, cells, area, bits)


def time_netlist(top: str, folder: Path) -> tuple[list[TimingPath], str]:
    """Time ``netlist.v``; return the worst path of every endpoint and the worst one's details.

    Raises
    ------
    RuntimeError
        If OpenSTA is missing or fails.
    """
    commands = [
        "read_liberty cells.lib",
        "read_liberty memories.lib",
        "read_verilog netlist.v",
        f"link_design {top}",
        f"create_clock -name clk -period {TARGET_PERIOD_NS} [get_ports clk]",
        # inputs come from registers of other units
        "set_input_delay 0 -clock clk [all_inputs]",
        "set_output_delay 0 -clock clk [all_outputs]",
        "report_checks -path_delay max -format full -digits 3 -fields {slew} > worst.rpt",
        f"report_checks -path_delay max -format summary -digits 3 -group_count {PATHS} > paths.rpt",
    ]
    (folder / "sta.tcl").write_text("\n".join(commands) + "\n")
    run([find_sta(), "-no_splash", "-exit", "sta.tcl"], folder)
    return parse_summary((folder / "paths.rpt").read_text()), (folder / "worst.rpt").read_text()


def parse_summary(report: str) -> list[TimingPath]:
    """Read OpenSTA's table of paths: a start point, an end point and a slack in each row.

    Flip-flops have their signal's name: Yosys's suffix with the kind is left out.
    """
    report = re.sub(r"\$_\w+_(?=/)", "", report)
    rows = re.findall(r"^(\S+)(?: \(\S+\))?\s+(\S+)(?: \(\S+\))?\s+(-?\d+\.\d+)$", report, re.M)
    return [TimingPath(start, end, float(slack)) for start, end, slack in rows]


def unit_of(pin: str, depth: int) -> str:
    """Return the unit of a pin, ``depth`` levels below the top; "" for the top itself."""
    # the last two parts are a cell and its pin
    return "/".join(pin.split("/")[:-2][:depth])


def area_table(areas: list[Area], depth: int) -> str:
    """Return the table of areas, down to ``depth`` levels below the top."""
    lines = ["area by unit", f"{'cells':>9} {'area':>12} {'memory bits':>12}  unit"]
    top = areas[0].unit
    for entry in areas:
        below = entry.unit.removeprefix(top).lstrip(".")
        level = len(below.split(".")) if below else 0
        if level <= depth:
            lines.append(
                f"{entry.cells:9} {entry.area:12.0f} {entry.memory_bits:12}  {'  ' * level}"
                f"{below.split('.')[-1] or top}"
            )
    return "\n".join(lines)


def path_table(paths: list[TimingPath], depth: int, count: int) -> str:
    """Return the table of the worst path between each pair of units, and the resulting clock."""
    if not paths:
        return "there is no path between registers"
    paths = sorted(paths, key=lambda path: path.slack_ns)
    worst: dict[tuple[str, str], TimingPath] = {}
    for path in paths:
        worst.setdefault((unit_of(path.start, depth), unit_of(path.end, depth)), path)
    lines = ["worst paths by unit", f"{'ns':>9}  from -> to"]
    for path in list(worst.values())[:count]:
        lines.append(f"{TARGET_PERIOD_NS - path.slack_ns:9.3f}  {path.start} -> {path.end}")
    period = TARGET_PERIOD_NS - paths[0].slack_ns
    lines += ["", f"clock period {period:.3f} ns, {1000 / period:.0f} MHz (not placed)"]
    return "\n".join(lines)


def read_liberty(path: Path) -> str:
    """Return the text of a Liberty file, which may be compressed (``.gz``).

    Raises
    ------
    FileNotFoundError
        If it does not exist; the message says what to pass.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"no Liberty file {path}: expected LIBERTY=cells.lib, or that of Debian: "
            f"apt-get install qflow-tech-osu018"
        )
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", errors="replace") as file:
        return str(file.read())


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Map and time a PE, or any Verilog, and print the tables."""
    parser = argparse.ArgumentParser(prog="loopnest_hw.timing", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="single")
    parser.add_argument("--dtype", choices=[f.value for f in NumberFormat], default="bf16")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=NUMBER", help="override a parameter"
    )
    parser.add_argument("--liberty", type=Path, default=DEFAULT_LIBERTY)
    parser.add_argument("--output", type=Path, default=Path("build/timing"), help="folder")
    parser.add_argument(
        "--chip",
        action="store_true",
        help="instead of the PE, the chip around it, with registers at the ports of each PE",
    )
    parser.add_argument("--verilog", type=Path, help="this design instead of the PE")
    parser.add_argument("--top", help="its top module; default pe, or chip with --chip")
    parser.add_argument("--depth", type=int, default=2, help="levels of units in the tables")
    parser.add_argument("--paths", type=int, default=25, help="paths in the tables")
    parser.add_argument("--area", action="store_true", help="no timing, which OpenSTA does")
    options = parser.parse_args(arguments)
    folder: Path = options.output
    name = "chip" if options.chip else "pe"
    top = options.top or name
    try:
        if options.chip and options.verilog is not None:
            raise ValueError("--chip and --verilog: expected one of them")
        if options.verilog is not None and not options.verilog.is_file():
            raise FileNotFoundError(f"{options.verilog}: expected a Verilog file")
        folder.mkdir(parents=True, exist_ok=True)
        library = read_liberty(options.liberty)
        find_yosys()
        if not options.area:
            find_sta()
        (folder / "cells.lib").write_text(library)
        verilog = options.verilog
        if verilog is None:
            verilog = folder / f"{name}.v"
            config = make_config(options.preset, options.dtype, **parse_overrides(options.set))
            written = surroundings_verilog if options.chip else pe_verilog
            verilog.write_text(written(config, top))
        areas = synthesize(verilog, top, folder)
        print(area_table(areas, options.depth), flush=True)
        if options.area:
            return 0
        paths, worst = time_netlist(top, folder)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"timing: {error}", file=sys.stderr)
        return 1
    print(f"\n{path_table(paths, options.depth, options.paths)}")
    print(f"\nthe worst path\n{worst}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
