"""Runs a component's cocotb tests on its generated Verilog, in Verilator and in Icarus.

Verilator gets the Verilog of the simulated chips, Icarus that of `make verilog`.

A bench is one file with both sides: a pytest function names the component, cocotb tests drive it::

    @pytest.mark.parametrize("simulator", SIMULATORS)
    def test_adder(simulator):
        run_bench(Adder(), module=__name__, simulator=simulator, parameters={"stall": 0.3})

    @cocotb.test()
    async def sums(dut):
        source = Source(dut, "i", PAIR, bench.rng(), stall=bench.parameters["stall"])
        sink = Sink(dut, "o", SUM, bench.rng())
        await bench.start(dut)
        ...

Every run prints its seed when it fails; ``LOOPNEST_SEED`` replays it. ``LOOPNEST_WAVES=1`` records
waves. ``LOOPNEST_COVERAGE=folder`` runs only Verilator and writes the coverage of each run to the
folder (read by `tb.coverage`). Runs and builds are in ``build/tb``.
"""

import json
import os
import random
import re
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import amaranth
import cocotb
import cocotb_tools.config
from amaranth.lib import wiring
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_tools.runner import get_runner

import loopnest_hw
from loopnest_hw.generate import to_verilog
from loopnest_hw.processes import start_processes
from loopnest_sim.build import build_once, compile_verilog, digest, find_verilator, run_tool

BUILD = Path(__file__).parent.parent / "build" / "tb"
"""Folder of the builds and of the runs."""

PERIOD_NS = 2
"""Clock period in the benches."""

ALL_SIMULATORS = ("verilator", "icarus")

ICARUS_STANDARDS = {"icarus": "2012", "icarus-2005": "2005"}
"""Standard of the language by Icarus's name here. The older one is for benches of whole chips."""

COVERAGE = os.environ.get("LOOPNEST_COVERAGE", "")
"""Folder for the coverage of each run, if enabled."""

SIMULATORS = [
    name
    for name in ALL_SIMULATORS
    if name != "icarus" or (shutil.which("iverilog") and not COVERAGE)
]
"""The simulators of this machine: parametrize benches over them."""

MISSING_SIMULATORS = [
    "icarus is left out: iverilog was not found (apt-get install iverilog)"
    for name in ALL_SIMULATORS
    if name not in SIMULATORS
]
"""One line for each simulator that is not installed, and how to install it."""


def runs(cases: Sequence[tuple[Any, ...]], *, icarus: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return a bench's parameters, the simulator first: all cases in Verilator, some in Icarus,
    which shows unknown values and another order of events, whatever the case.
    """
    missing = [case for case in icarus if case not in cases]
    if missing:
        raise ValueError(f"icarus={missing}: expected some of the cases {list(cases)}")
    return [
        (simulator, *case)
        for simulator in SIMULATORS
        for case in (icarus if simulator == "icarus" else cases)
    ]


def run_bench(
    component: wiring.Component,
    *,
    module: str,
    simulator: str,
    parameters: dict[str, Any] | None = None,
    seed: int = 1,
    testcase: str | None = None,
    optimise: bool = False,
) -> None:
    """Export the component to Verilog, build it and run the cocotb tests of `module` on it.

    Parameters
    ----------
    component : Component
        Not yet elaborated. Its ports appear as ``i__payload``, ``i__valid`` and so on; the clock is
        ``clk``, the reset ``rst``.
    module : str
        Python module with the cocotb tests, usually ``__name__``.
    simulator : str
        ``verilator``, ``icarus`` or ``icarus-2005``.
    parameters : dict, optional
        JSON values, which the tests find as ``bench.parameters``.
    seed : int
        Base seed of ``bench.rng()``; the environment's ``LOOPNEST_SEED`` takes precedence.
    testcase : str, optional
        Runs only the cocotb test of this name.
    optimise : bool
        Whether Verilator's C++ is optimised: the build takes twice as long, the simulator half.

    Raises
    ------
    AssertionError
        If a test failed or none ran; the message names the tests, the seed and the log.
    """
    names = ("verilator", *ICARUS_STANDARDS)
    if simulator not in names:
        raise ValueError(f"simulator {simulator!r}: expected one of {', '.join(names)}")
    inputs = [
        "__".join(map(str, path))
        for path, member, _ in component.signature.flatten(component)
        if member.flow is wiring.In
    ]
    top = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(component).__name__).lower()
    run = Run(top, inputs, module, parameters or {}, seed, testcase, optimise)
    if recorder is not None:
        recorder(run, component)
        return
    text = generate_once(component, top)
    if simulator in ICARUS_STANDARDS:
        text = start_processes(text)
    simulate(run, text, simulator)


@dataclass(frozen=True)
class Run:
    """A run of a bench: the top module, its input ports, and the arguments of `run_bench`."""

    top: str
    inputs: list[str]
    module: str
    parameters: dict[str, Any]
    seed: int
    testcase: str | None
    optimise: bool = False


recorder: Callable[[Run, wiring.Component], None] | None = None
"""If set, receives the runs instead of the simulator (used by `tb.mutation`)."""


def simulate(run: Run, text: str, simulator: str, *, plusargs: Sequence[str] = ()) -> None:
    """Build this Verilog of the component, and run the cocotb tests on it with these arguments.

    Raises
    ------
    AssertionError
        As `run_bench`.
    """
    waves = os.environ.get("LOOPNEST_WAVES", "0") not in ("", "0")
    build = _build(text, run.top, simulator, waves, run.optimise)
    seed = int(os.environ.get("LOOPNEST_SEED", run.seed))
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=build))
    results, log = folder / "results.xml", folder / "log"
    setting = {
        "parameters": run.parameters,
        "seed": seed,
        "inputs": run.inputs,
        "simulator": simulator,
    }
    crash = ""
    try:
        get_runner(simulator.partition("-")[0]).test(
            test_module=run.module,
            hdl_toplevel=run.top,
            hdl_toplevel_lang="verilog",
            build_dir=build,
            test_dir=folder,
            results_xml=str(results),
            log_file=log,
            seed=seed,
            testcase=run.testcase,
            plusargs=plusargs,
            waves=waves,
            extra_env={
                "LOOPNEST_BENCH": json.dumps(setting),
                # a failed assertion shows its values, but not those of every module's assertions,
                # and pytest's plugins are not imported: that took more time than most runs
                "COCOTB_REWRITE_ASSERTION_FILES": "tb/*.py",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
        )
    except (SystemExit, RuntimeError) as error:
        crash = f" ({error})"
    passed, failed = _results(results)
    if failed or not passed:
        what = ", ".join(failed) if failed else f"no test ran{crash}"
        tail = log.read_text(errors="replace")[-8000:] if log.exists() else ""
        raise AssertionError(
            f"{tail}\n{run.module} in {simulator}: failed: {what}\n"
            f"parameters {run.parameters}\nlog {log}\nreplay with LOOPNEST_SEED={seed}"
        )
    if COVERAGE:
        _keep_coverage(Path(COVERAGE), build / f"{run.top}.v", folder / "coverage.dat")
    if not waves:
        shutil.rmtree(folder)


def _keep_coverage(folder: Path, source: Path, data: Path) -> None:
    """Store a run's coverage next to its Verilog."""
    folder = folder / source.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / source.name)
    shutil.copyfile(data, folder / f"{uuid.uuid4().hex}.dat")


def generate_once(component: wiring.Component, top: str) -> str:
    """Return the Verilog of a component, generated once for all runs with these parameters."""
    if COVERAGE:  # which is reported by source lines
        return to_verilog(component, top, sources=True)
    described = describe(component)
    if " at 0x" in described:  # something whose text is its address
        return to_verilog(component, top)

    def build(folder: Path) -> None:
        (folder / "unit.v").write_text(to_verilog(component, top))

    name = f"{top}-{digest(described, amaranth.__version__, *_sources())}.text"
    return (build_once(BUILD / name, build) / "unit.v").read_text()


def describe(component: wiring.Component) -> str:
    """Return a text that tells the component from others: its class, ports and parameters."""
    parameters = {
        name: describe(value) if isinstance(value, wiring.Component) else repr(value)
        for name, value in sorted(vars(component).items())
        # not what Amaranth keeps
        if name not in component.signature.members and not re.match("_[A-Z]", name)
    }
    kind = type(component)
    return f"{kind.__module__}.{kind.__qualname__} {component.signature!r} {parameters}"


@cache
def _sources() -> list[str]:
    """Return the text of all files on which the Verilog of a component depends."""
    folders = (Path(loopnest_hw.__path__[0]), Path(__file__).parent)
    return [path.read_text() for folder in folders for path in sorted(folder.rglob("*.py"))]


def _build(text: str, top: str, simulator: str, waves: bool, optimise: bool) -> Path:
    """Compile the Verilog, once for each text, simulator and choice of waves and optimisation."""
    version = find_verilator().version if simulator == "verilator" else ""

    def build(folder: Path) -> None:
        source = folder / f"{top}.v"
        source.write_text(text)
        if simulator in ICARUS_STANDARDS:
            _compile_icarus(folder, source, top, ICARUS_STANDARDS[simulator], waves)
            return
        libraries = shlex.quote(str(cocotb_tools.config.libs_dir))
        # a bench accesses only the ports of its unit; other public signals could not be optimized
        public = folder / "public.vlt"
        public.write_text(f'`verilator_config\npublic_flat_rw -module "{top}" -var "*"\n')
        compile_verilog(
            folder,
            BUILD,
            [
                *("--cc", "--exe", "--vpi", "-Wno-fatal", "-Wno-lint", "-O3"),
                *("--x-assign", "unique", "--timescale", "1ns/1ps"),
                *(("--trace",) if waves else ()),
                *(("--coverage-line",) if COVERAGE else ()),
                "-LDFLAGS",
                f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator",
            ],
            [cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp", public, source],
            top=top,
            output=top,
            # most benches' runs are short and mostly Python
            make_variables=(f"OPT_FAST=-O{int(optimise)}", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1"),
            together=True,
        )

    name = (
        f"{top}-{digest(text, simulator, str(waves), str(optimise), version, cocotb.__version__)}"
    )
    return build_once(BUILD / name, build)


def _compile_icarus(folder: Path, source: Path, top: str, standard: str, waves: bool) -> None:
    settings = folder / "settings.f"
    settings.write_text("+timescale+1ns/1ps\n")
    command = ["iverilog", f"-g{standard}", "-o", "sim.vvp", "-s", top, "-f", str(settings)]
    command.append(str(source))
    if waves:
        dump = folder / "dump.v"
        dump.write_text(
            "module dump; initial begin\n"
            f'  $dumpfile("dump.fst"); $dumpvars(0, {top});\n'
            "end endmodule\n"
        )
        command += ["-s", "dump", str(dump)]
    run_tool(command, folder)


def _results(path: Path) -> tuple[list[str], list[str]]:
    """Return the names of the tests that passed and of those that failed."""
    passed: list[str] = []
    failed: list[str] = []
    if path.exists():
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            bad = case.find("failure") is not None or case.find("error") is not None
            if bad or case.find("skipped") is None:
                (failed if bad else passed).append(case.get("name", ""))
    return passed, failed


class Bench:
    """The settings of the running bench, inside the simulator."""

    def __init__(self) -> None:
        self._generators = 0

    @cached_property
    def _setting(self) -> dict[str, Any]:
        if "LOOPNEST_BENCH" not in os.environ:
            raise RuntimeError("bench is for cocotb tests that run_bench started")
        setting: dict[str, Any] = json.loads(os.environ["LOOPNEST_BENCH"])
        return setting

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters given to `run_bench`, as JSON returns them."""
        parameters: dict[str, Any] = self._setting["parameters"]
        return parameters

    @property
    def seed(self) -> int:
        """The base seed."""
        return int(self._setting["seed"])

    def count(self, number: int) -> int:
        """Return how many random items a run has: this number, and a third of it in Icarus, which
        takes several times as long. Unknown values and another order of events show in few.
        """
        return number // 3 if self._setting["simulator"] in ICARUS_STANDARDS else number

    def rng(self) -> random.Random:
        """Return a new generator, different from the earlier ones but determined by the seed."""
        self._generators += 1
        return random.Random(f"{self.seed}/{self._generators}")

    async def start(self, dut: Any, *, reset: bool = True) -> None:
        """Start the clock, set every input to 0 and reset; returns at the first cycle without."""
        for name in self._setting["inputs"]:
            getattr(dut, name).value = 0
        if not hasattr(dut, "clk"):
            raise RuntimeError("the component has no clock: nothing in it is synchronous")
        dut.rst.value = int(reset)
        cocotb.start_soon(Clock(dut.clk, PERIOD_NS, unit="ns").start())
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await RisingEdge(dut.clk)


bench = Bench()
"""The running bench: for use in cocotb tests."""
