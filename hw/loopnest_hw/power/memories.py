"""Energy of memories: a table by size, times the accesses that their enables show."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from ..memory_cells import MemoryCell
from .cells import Numbers
from .netlist import Memory, Netlist
from .replay import WORD_BITS, Words, cycle_mask


@dataclass(frozen=True)
class Sram:
    """Energy of an access by the memory's size, in joules."""

    source: str
    read: dict[int, tuple[Numbers, Numbers]]
    """By the bytes of a word: the logarithms of sizes (bytes) and of energies."""
    write: dict[int, tuple[Numbers, Numbers]]

    def energy(self, kind: MemoryCell) -> tuple[float, float]:
        """Return the energy of reading and of writing a word.

        It is interpolated in the logarithms of size and width; beyond the table, its ends. The
        table is for one port; a memory with several takes more.
        """
        size, width = np.log(kind.bits / 8), np.log(kind.width / 8)
        found = []
        for table in (self.read, self.write):
            by_width = [np.interp(size, *curve) for curve in table.values()]
            found.append(float(np.exp(np.interp(width, np.log(list(table)), by_width))))
        return found[0], found[1]


@cache
def load_sram() -> Sram:
    """Return the table of ``sram.json``."""
    data = json.loads(files(__package__).joinpath("sram.json").read_text())
    rows = np.array(data["rows"], float)
    read, write = {}, {}
    for width in np.unique(rows[:, 1]):
        sizes, _, reads, writes = rows[rows[:, 1] == width].T
        read[int(width)] = np.log(sizes), np.log(reads * 1e-12)
        write[int(width)] = np.log(sizes), np.log(writes * 1e-12)
    return Sram(data["source"], read, write)


def accesses(
    memory: Memory, values: Words, cycles: int, piece_words: int
) -> tuple[Numbers, Numbers]:
    """Return the words read and written in each piece of a window. A write of a part of a word
    counts as that part.
    """
    mask = cycle_mask(cycles, values.shape[1])
    at = np.arange(0, -(-cycles // WORD_BITS), piece_words)

    def count(port: str) -> Numbers:
        ones = np.bitwise_count(values[memory.ports[port]] & mask)
        found: Numbers = np.add.reduceat(ones.sum(axis=0, dtype=np.int64), at).astype(float)
        return found

    kind = memory.kind
    reads = count("RD_EN") if kind.reads else np.zeros(len(at))
    writes = count("WR_EN") if kind.writes else np.zeros(len(at))
    return reads, writes * (kind.writes / kind.enables if kind.enables else 0.0)


def memory_energy(
    netlist: Netlist, values: Words, cycles: int, piece_words: int | None = None
) -> Numbers:
    """Return the energy of all accesses, in joules; shape (units, pieces)."""
    words = -(-cycles // WORD_BITS)
    piece = piece_words or words
    found = np.zeros((len(netlist.units), -(-words // piece)))
    for memory in netlist.memories:
        read, write = load_sram().energy(memory.kind)
        reads, writes = accesses(memory, values, cycles, piece)
        found[memory.unit] += reads * read + writes * write
    return found
