"""Runs a mapped netlist in Icarus, cell by cell, and returns the value of every net."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from loopnest_hw.power.cells import Cell
from loopnest_hw.power.mapping import Mapped
from loopnest_hw.power.netlist import Netlist, read_netlist
from loopnest_hw.power.replay import Words, pack
from loopnest_hw.yosys import find_yosys, run
from loopnest_sim.recording import CYCLE_TIME, Recording

PERIOD = 10


def flat_netlist(mapped: Mapped, folder: Path) -> Netlist:
    """Return the netlist of `folder`, flattened by Yosys, with simple names for all nets.

    Writes it as ``gates.v`` too.
    """
    script = (
        "read_json netlist.json; flatten -noscopeinfo; rename -hide w:*; "
        "rename -enumerate -pattern n%; write_json gates.json; "
        "write_verilog -norename -noattr -noexpr gates.v"
    )
    run([find_yosys(), "-q", "-p", script], folder)
    return read_netlist(folder / "gates.json", "unit", mapped.library, all_names=True)


def _model(cell: Cell) -> str:
    """Return a cell's Verilog."""
    pins = [*cell.inputs, *cell.outputs]
    lines = [f"module {cell.name}({', '.join(pins)});"]
    lines += [f"input {pin};" for pin in cell.inputs] + [f"output {pin};" for pin in cell.outputs]
    if cell.is_flip_flop:
        state, inverse = cell.state
        lines += [f"reg {state} = 0;", f"wire {inverse} = ~{state};"]
        lines += [f"always @(posedge {cell.clock}) {state} <= {cell.data};"]
    if cell.is_gate:
        lines += ["reg passes = 0;", f"always @* if (!{cell.clock}) passes = {cell.data};"]
        lines += [f"assign {pin} = passes & {cell.clock};" for pin in cell.outputs]
    else:
        functions = {pin: text.replace("(A B)", "(A & B)") for pin, text in cell.outputs.items()}
        lines += [f"assign {pin} = {text};" for pin, text in functions.items()]
    return "\n".join([*lines, "endmodule", ""])


def simulate(netlist: Netlist, inputs: np.ndarray, folder: Path) -> Recording:
    """Run ``gates.v`` with the bits of all inputs but the clock (inputs x cycles).

    The nets are signals ``bench.unit.n0`` and so on.
    """
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus is not installed")
    names = [name for name in netlist.inputs if name != "clk"]
    cycles = inputs.shape[1]
    rows = ["".join(map(str, column[::-1])) for column in inputs.T]
    (folder / "inputs.txt").write_text("\n".join(rows) + "\n")
    ports = [f".\\{name} (now[{n}])" for n, name in enumerate(names)]
    ports += [f".\\{name} (outs[{n}])" for n, name in enumerate(netlist.outputs)]
    bench = f"""`timescale 1ps / 1ps
module bench;
  reg clk = 0; integer at;
  reg [{len(names) - 1}:0] all [0:{cycles - 1}];
  reg [{len(names) - 1}:0] now;
  wire [{len(netlist.outputs) - 1}:0] outs;
  unit unit(.clk(clk), {", ".join(ports)});
  initial begin
    $readmemb("inputs.txt", all);
    now = all[0];
    $dumpfile("gates.vcd"); $dumpvars(0, bench);
    for (at = 0; at < {cycles}; at = at + 1) begin
      now = all[at];
      #{CYCLE_TIME // 2} clk = 0;
      #{CYCLE_TIME // 2 - 1} ;
      if (at + 1 < {cycles}) #1 clk = 1;
    end
    $finish;
  end
endmodule
"""
    (folder / "bench.v").write_text(bench)
    models = "".join(_model(cells.kind) for cells in netlist.cells)
    (folder / "models.v").write_text(models)
    for command in (
        ["iverilog", "-o", "gates.vvp", "bench.v", "gates.v", "models.v"],
        ["vvp", "-n", "gates.vvp"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return Recording(folder / "gates.vcd")


def net_words(netlist: Netlist, recording: Recording, inputs: np.ndarray) -> dict[int, Words]:
    """Return the recorded values of every net that has a name in the flat netlist."""
    ports = [int(nets[0]) for name, nets in netlist.inputs.items() if name != "clk"]
    padded = np.pad(inputs, ((0, 0), (0, 64 * recording.words - inputs.shape[1])), mode="edge")
    found: dict[int, Words] = dict(zip(ports, pack(padded), strict=True))
    for net, names in netlist.names.items():
        for _, name in names:
            if recording.width(f"bench.unit.{name}"):
                found.setdefault(net, recording.bit(f"bench.unit.{name}", 0))
    for n, nets in enumerate(netlist.outputs.values()):
        found.setdefault(int(nets[0]), recording.bit("bench.outs", n))
    return found
