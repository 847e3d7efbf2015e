"""Memories: their energy by size, and what counts as an access."""

import numpy as np
import pytest

from loopnest_hw.memory_cells import MemoryCell
from loopnest_hw.power.memories import load_sram, memory_energy
from loopnest_hw.power.netlist import Memory, Netlist
from loopnest_hw.power.replay import pack


def test_table() -> None:
    """The table's own entries, and energies between them."""
    sram = load_sram()
    read, write = sram.energy(MemoryCell(64, 1024, 1, 1, 1))
    assert read * 1e12 == pytest.approx(6.137) and write * 1e12 == pytest.approx(7.878)
    wider, _ = sram.energy(MemoryCell(128, 1024, 1, 1, 1))
    between, _ = sram.energy(MemoryCell(96, 1024, 1, 1, 1))
    assert read < between < wider


def test_accesses() -> None:
    """Reads of both ports, and a write of a half of a word, in the window's cycles only."""
    kind = MemoryCell(4, 1024, 2, 1, 4)
    bits = np.zeros((10, 64), np.uint8)
    bits[2, :5] = bits[3, 3:6] = 1  # two read enables
    bits[4, 7] = bits[5, 7] = 1  # two of four write enables
    bits[2:, 20:] = 1  # behind the window
    ports = {"RD_EN": np.array([2, 3]), "WR_EN": np.array([4, 5, 6, 7])}
    netlist = Netlist(10, ["", "unit"], [], [Memory(kind, "m", 1, ports)], {}, {}, {})
    read, write = load_sram().energy(kind)
    found = memory_energy(netlist, pack(bits), 20)
    assert found[:, 0] * 1e12 == pytest.approx([0, (8 * read + write / 2) * 1e12])
