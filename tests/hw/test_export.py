"""The exported Verilog: stable, clean, and readable by other tools."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loopnest.kernel.verilog import cached_verilog
from loopnest_hw import export
from loopnest_hw.config import make_config
from loopnest_hw.export import PE_TOP, TOP, WAIVERS, lint_waivers, main, pe_verilog
from loopnest_sim.build import find_verilator, run_tool
from tests.hw.initial_values import without_initial_values

CONFIG = make_config("shrunk", "int8")
ARGUMENTS = ("--preset", "shrunk", "--dtype", "int8")
FILES = ("loopnest.v", "loopnest.vlt", "loopnest.json", "loopnest.h")

# the chip is exported once, for the tests of tests/rtl too
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("shrunk/int8")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an exported chip; its Verilog is the one that is cached."""
    folder = tmp_path_factory.mktemp("export")
    texts = {CONFIG: cached_verilog(CONFIG)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "chip_verilog", texts.__getitem__)
        assert main([*ARGUMENTS, "--output", str(folder)]) == 0
    return folder


def test_stable(exported: Path, tmp_path: Path) -> None:
    """Another process, with other hashes, writes the same bytes, without a cache."""
    subprocess.run(
        [sys.executable, "-m", "loopnest_hw.export", *ARGUMENTS, "--output", str(tmp_path)],
        env=os.environ | {"PYTHONHASHSEED": "1234", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    )
    for name in FILES:
        assert (exported / name).read_bytes() == (tmp_path / name).read_bytes()


def test_text(exported: Path) -> None:
    """The top's ports have their standard names; no path of this machine is inside."""
    text = (exported / "loopnest.v").read_text()
    header = text[text.index(f"module {TOP}(") :]
    ports = set(header[header.index("(") + 1 : header.index(")")].replace("\n", "").split(", "))
    ports = {port.strip(" ,") for name in ports for port in name.split(",")}
    assert {"clk", "rst", "irq", "s_axil_awaddr", "s_axil_rdata", "m_axi_arid"} <= ports
    assert {"m_axi_wlast", "m_axi_rlast", "m_axi_bid", "m_axi_awburst"} <= ports
    assert all(p in ("clk", "rst", "irq") or p.startswith(("s_axil_", "m_axi_")) for p in ports)
    assert str(Path(__file__).parents[2]) not in text
    assert json.loads((exported / "loopnest.json").read_text())["parameters"]["multipliers"] == 2


def test_pe_alone() -> None:
    """A PE is a design of its own."""
    small = make_config("shrunk", "int8", multipliers=1, operands=2, streams=4, pool_lines=16)
    assert f"module {PE_TOP}(" in pe_verilog(small)


def test_waivers_are_few() -> None:
    """Each waiver names a rule and its reason."""
    assert len(WAIVERS) <= 8
    text = lint_waivers()
    assert all(f"// {reason}\nlint_off -rule {rule}\n" in text for rule, reason in WAIVERS)


def test_lint(exported: Path) -> None:
    """Verilator has nothing to say beyond the waivers."""
    verilator = find_verilator()
    command = [str(verilator.program), "--lint-only", "-Wall", "--top-module", TOP]
    run_tool([*command, "loopnest.vlt", "loopnest.v"], exported, verilator.environment)


def test_processes_start(exported: Path) -> None:
    """Every combinational process reads its module's trigger first."""
    text = (exported / "loopnest.v").read_text()
    modules = re.findall(r"^module .*?^endmodule$", text, re.M | re.S)
    heads = [re.findall(r"^ *always @(?!\(posedge clk\)).*\n.*", m, re.M) for m in modules]
    assert sum(map(len, heads)) > 1000
    for module, found in zip(modules, heads, strict=True):
        assert set(found) <= {"  always @* begin\n    if (_start_) begin end"}
        assert module.count("`LOOPNEST_START") == bool(found)
    assert text.count("initial _start_ <= 1'b0;") == 1


def test_reset(exported: Path, tmp_path: Path) -> None:
    """After one edge of the clock with the reset, no output is x, whatever the registers held.

    With initial values, in both standards: tb/chip/test_verilog.py.
    """
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog was not found")
    text = without_initial_values((exported / "loopnest.v").read_text())
    without, reset = run_resets(text, tmp_path)
    assert reset == ["edges 21"]
    assert "m_axi_arvalid is x" in without


def run_resets(verilog: str, folder: Path) -> list[list[str]]:
    """Return what a bench in Icarus prints, without a reset and with one of one edge: the outputs
    that are x in any of the 20 cycles after it. All other inputs are 0.
    """
    (top,) = re.findall(rf"^module {TOP}\(.*?^endmodule", verilog, re.M | re.S)
    ports = re.findall(
        r"^  (input|output) (?:wire |reg )?(\[\d+:0\] )?(\w+)(?: = [^;]+)?;", top, re.M
    )
    outputs = [name for kind, _, name in ports if kind == "output"]
    own = [
        f"wire {width}{name};" if kind == "output" else f"reg {width}{name} = 0;"
        for kind, width, name in ports
    ]
    checks = [f'if (^{name} === 1\'bx) $display("{name} is x");' for name in outputs]
    lines = [
        *("module bench;", *own, "integer edges = 0, resets;"),
        f"{TOP} chip({', '.join(f'.{name}({name})' for *_, name in ports)});",
        'initial begin if (!$value$plusargs("resets=%d", resets)) $finish;',
        "rst = 1; repeat (resets) begin #1 clk = 1; #1 clk = 0; edges = edges + 1; end",
        "rst = 0; repeat (20) begin",
        *("#1", *checks, "clk = 1; #1 clk = 0; edges = edges + 1;"),
        *('end $display("edges %0d", edges);', "end", "endmodule"),
    ]
    (folder / "bench.v").write_text("\n".join(lines) + "\n")
    (folder / "loopnest.v").write_text(verilog)
    options = ["-g2012", "-s", "bench", "-o", "bench.vvp"]
    run_tool(["iverilog", *options, "bench.v", "loopnest.v"], folder)
    return [
        run_tool(["vvp", "-n", "bench.vvp", f"+resets={n}"], folder).splitlines() for n in (0, 1)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "slots"], "'slots': expected FIELD=NUMBER"),
        (["--set", "slots=1"], "slots=1: expected 2 to 65536"),
        (["--set", "preset=3"], "config field 'preset': expected one of"),
        (["--output", "/dev/null/x"], "Not a directory: '/dev/null/x'"),
        (["--preset", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be exported is refused with its reason."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
