"""Work and roofs, against counts in plain loops over a SciPy product."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest_hw.config import make_config
from loopnest_hw.descriptor import LeafMode, ResultMode
from loopnest_sim.roof import Work, measure

from .tensors import HOLD, Kernel, Memory

FIBER, KEY = (ResultMode.FIBER, 1), (ResultMode.KEY, 1)


class Stream:
    """Counts an item whose line differs from the last one's, if it is not among the kept ones."""

    def __init__(self, kept: int = 0) -> None:
        self.line = -1
        self.lines = self.taken = 0
        self.kept = [-1] * kept
        self.bytes: set[int] = set()

    def item(self, address: int, size: int) -> None:
        line = address // 32
        if line != self.line:
            self.taken += 1
            self.line = line
            place = line % len(self.kept) if self.kept else 0
            if not self.kept or self.kept[place] != line:
                self.lines += 1
                self.kept[place : place + 1] = [line] if self.kept else []
        self.bytes |= set(range(address, address + size))


def bank(column: int) -> int:
    """Return the accumulator's bank of a column."""
    return column % 16 ^ (3 if f"{column // 16:b}".count("1") % 2 else 0)


def steps(columns: list[int], m: int, *, axpy: bool) -> int:
    """Return the steps of a leaf fiber with work in these columns."""
    count = 0
    while columns:
        head = columns[0] // 16
        step = [c for c in columns if c // 16 == head][:m]
        rest = columns[len(step) :]
        if rest and rest[0] // 16 != head:
            following = rest[0] // 16
            for c in [c for c in rest if c // 16 == following]:
                if len(step) == m or (axpy and bank(c) in map(bank, step)):
                    break
                step.append(c)
        columns = columns[len(step) :]
        count += 1
    return count


def random_matrix(rng: np.random.Generator, rows: int, columns: int) -> sp.csr_array:
    A = sp.csr_array(sp.random_array((rows, columns), density=0.15, rng=rng, format="csr"))
    A.sort_indices()
    return A


@pytest.mark.parametrize("multipliers", [1, 2, 4, 16])
@pytest.mark.parametrize("seed", range(3))
def test_spgemm(multipliers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    memory = Memory(make_config(multipliers=multipliers))
    A, B = random_matrix(rng, 30, 40), random_matrix(rng, 40, 200)
    a, b = memory.matrix(A), memory.matrix(B)
    k = Kernel.of(memory, [a.values, b.values], LeafMode.AXPY)
    k.loop(30, [1, HOLD], FIBER, ones=0)
    k.loop(40, [a.rows, 1])
    k.loop(200, [HOLD, b.rows], KEY, leaf=True)
    d = k.descriptor(fibers=30, size=200, drain_stop=2, compressed=True)
    before = memory.image.read(0, memory.image.extent)
    work = measure(memory.config, memory.image, d)
    np.testing.assert_array_equal(memory.image.read(0, memory.image.extent), before)

    entries, blocks = ({o: Stream() for o in range(2)} for _ in range(2))
    values = {o: Stream(make_config().kept_lines) for o in range(2)}
    useful = leaf_steps = 0

    def scan(o: int, i: int) -> list[int]:
        X, level = (A, a.rows) if o == 0 else (B, b.rows)
        for word in range(3):
            entries[o].item(level.table + 8 * i + 4 * word, 4)
        before = [
            len({c // 16 for c in X.indices[X.indptr[r] : X.indptr[r + 1]]}) for r in range(i)
        ]
        row = X.indices[X.indptr[i] : X.indptr[i + 1]].tolist()
        for n in range(len({c // 16 for c in row})):
            blocks[o].item(level.blocks + 4 * (sum(before) + n), 4)
        return row

    for i in range(30):
        for at, column in enumerate(scan(0, i), int(A.indptr[i])):
            row = scan(1, column)
            leaf_steps += steps(row, multipliers, axpy=True)
            for n in range(len(row)):
                values[0].item(a.values + 2 * at, 2)
                values[1].item(b.values + 2 * (int(B.indptr[column]) + n), 2)
                useful += 1

    streams = [*entries.values(), *blocks.values(), *values.values()]
    assert work.useful_lanes == useful
    assert work.steps == leaf_steps
    assert work.lines_read == sum(s.lines for s in streams)
    assert work.lines_taken == max(s.taken for s in values.values())
    assert work.bytes_read == sum(len(s.bytes) for s in streams)

    C = (A != 0).astype(int) @ (B != 0).astype(int)
    count = sum(len({c // 16 for c in C[[i]].indices}) for i in range(30))
    assert work.bytes_written == 30 * 12 + 4 * count + 4 * C.nnz
    lines = [-(-16 * 30 // 32), -(-4 * count // 32), -(-4 * C.nnz // 32)]
    assert work.lines_written == sum(lines)
    assert work.pe_roof(memory.config) == max(leaf_steps, work.lines_read, work.lines_written)


def count_steps(columns: list[int], leaf: LeafMode, *, accumulate: bool = True) -> int:
    """Return the steps of a kernel with one leaf fiber."""
    x = np.zeros((1, 1024))
    x[0, columns] = 1
    memory = Memory(make_config())
    a = memory.matrix(sp.csr_array(x))
    k = Kernel.of(memory, [a.values], leaf)
    k.loop(1, [1], FIBER, ones=0)
    k.loop(1024, [a.rows], KEY if leaf is LeafMode.AXPY else (ResultMode.HOLD, 0), leaf=True)
    d = k.descriptor(fibers=1, size=1024, drain_stop=1, compressed=True)
    d["accumulate"] = int(accumulate)
    return measure(memory.config, memory.image, d).steps


def test_axpy_stops_at_a_bank_taken() -> None:
    # lane 1 of block 1 is in bank 2
    for columns, expected in (([0, 1, 16, 17], 1), ([0, 1, 18, 19], 2), ([0, 1, 96, 97], 2)):
        assert count_steps(columns, LeafMode.AXPY) == expected
        assert count_steps(columns, LeafMode.DOT) == 1
    # lanes of blocks that are assembled without sums are in no banks
    assert count_steps([0, 1, 16, 17], LeafMode.AXPY, accumulate=False) == 2
    assert count_steps([0, 1, 18, 19], LeafMode.AXPY, accumulate=False) == 1


def test_strides_of_a_power_of_two_take_two_blocks_a_step() -> None:
    for r in range(0, 1024, 5):
        assert count_steps([(r + 32 * k) % 1024 for k in range(32)], LeafMode.AXPY) == 16
    for stride in (16, 32, 64, 128, 256, 512):
        columns = list(range(7, 1024, stride))
        assert count_steps(columns, LeafMode.AXPY) <= len(columns) // 2 + 1


def test_roof_is_the_tightest_bound() -> None:
    work = Work(
        useful_lanes=1000,
        steps=300,
        lines_taken=60,
        lines_read=70,
        lines_written=400,
        bytes_read=6400,
        bytes_written=320,
    )
    config = make_config()
    assert work.pe_roof(config) == 400
    ten = replace(config, pes=10)
    two_ports = replace(ten, memory_ports=2)
    assert work.pe_roof(ten) == 200
    assert work.pe_roof(two_ports) == 100
    assert replace(work, steps=3001).pe_roof(ten) == 301
    assert replace(work, lines_taken=401).pe_roof(config) == 401
    assert work.roof(config) == 250
    assert work.roof(ten) == 200
    assert work.roof(two_ports) == 100
    assert work.roof(ten, read_rate=640) == 25
    assert work.roof(replace(config, pes=20), read_rate=640, write_rate=4) == 80
