"""The numbers and tables of docs/integration.md are those of the exported Verilog."""

import re
from pathlib import Path

import pytest

from loopnest.kernel.verilog import cached_verilog
from loopnest_hw.chip.axi import CONTROL_ADDRESS_BITS, axi_read, axi_write, identifier_bits
from loopnest_hw.chip.memory_port import WRITES_OUTSTANDING
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.export import TOP
from tests.hw.memories import memories

PAGE = (Path(__file__).parents[2] / "docs" / "integration.md").read_text()
CONFIG = make_config()


def row(name: str) -> list[str]:
    """Return the cells of a row of the table of the memory bus, behind the first."""
    (cells,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.M)
    return cells.split(" | ")


def test_bus() -> None:
    assert row("identifier bits") == [str(identifier_bits(CONFIG))] * 2
    small, large = (identifier_bits(make_config(preset)) for preset in ("small", "large"))
    assert f"they have more bits, {small} for `small` and {large} for `large`" in PAGE
    assert row("outstanding, at most") == [str(CONFIG.reads_outstanding), str(WRITES_OUTSTANDING)]
    assert row("beat size") == [f"{LINE_BYTES} bytes, aligned"] * 2
    assert f"nothing is transferred for {CONFIG.watchdog} cycles" in " ".join(PAGE.split())
    assert f"{CONTROL_ADDRESS_BITS} bits of address, 32 bits of data" in PAGE
    members = {**axi_read(CONFIG).members, **axi_write(CONFIG).members}
    missing = ("lock", "cache", "prot", "qos", "region", "user")
    assert all(f"`ax{name}`" in PAGE and f"ar{name}" not in members for name in missing)


def test_files() -> None:
    assert all(f"`loopnest.{suffix}`" in PAGE for suffix in ("v", "vlt", "json", "h"))


@pytest.mark.slow
@pytest.mark.xdist_group("single/bf16")
def test_memories() -> None:
    text = cached_verilog(CONFIG)
    rows = re.findall(r"^\| `([\w.]+)` \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.M)
    table = {(unit, int(words), int(bits)): int(n) for unit, words, bits, n in rows}
    assert table == memories(text, TOP)
    # one clock; one write port, with an enable for each bit in the directory; synchronous reads
    for module in re.findall(r"^module .*?^endmodule", text, re.M | re.S):
        for name in re.findall(r"^  reg (?:\[\d+:0\] )?(\S+) *\[\d+:0\];", module, re.M):
            asynchronous = rf"^ *assign .*(?<![\w.$]){re.escape(name)} ?\["
            assert not re.search(asynchronous, module, re.M), name
    assert set(re.findall(r"always @\((.*)\)", text)) == {"posedge clk"}
