"""Descriptors by hand: places tensors in a memory image, and sets loops cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES, ChipConfig, NumberFormat
from loopnest_hw.descriptor import CellMode, LeafMode, ResultMode, pack, unpack
from loopnest_sim.image import Image


@dataclass(frozen=True)
class Level:
    """A compressed level in memory."""

    table: int
    blocks: int


@dataclass(frozen=True)
class Matrix:
    """A matrix whose rows are dense and whose columns are compressed."""

    rows: Level
    values: int


HOLD = CellMode.HOLD
Cells = Sequence[Level | int | CellMode]
"""For each operand: the level to scan, the stride to follow, or HOLD."""


@dataclass
class Memory:
    """An image, filled from its start."""

    config: ChipConfig
    image: Image = field(default_factory=Image)
    free: int = 0

    def put(self, array: NDArray[Any]) -> int:
        """Place an array; return its address."""
        address = self.free
        self.image.write(address, array)
        self.free += -(-array.nbytes // LINE_BYTES) * LINE_BYTES
        return address

    def reserve(self, nbytes: int) -> int:
        """Reserve bytes; return their address."""
        return self.put(np.zeros(nbytes, np.uint8))

    def values(self, values: NDArray[Any]) -> int:
        """Place narrow values."""
        if self.config.dtype is NumberFormat.INT8:
            return self.put(values.astype(np.int8))
        bits = values.astype(np.float32).view(np.uint32) >> np.uint32(16)
        return self.put(bits.astype(np.uint16))

    def matrix(self, A: sp.csr_array) -> Matrix:
        """Place a matrix."""
        A.sort_indices()
        row = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
        block = row << 16 | A.indices // LANES
        start = np.flatnonzero(np.diff(block, prepend=-1))
        masks = np.bitwise_or.reduceat(1 << A.indices % LANES, start) if len(start) else start
        table = np.zeros(2 * A.shape[0] + 1, np.uint32)
        table[2::2] = np.cumsum(np.bincount(row[start], minlength=A.shape[0]))
        table[1::2] = A.indptr[:-1]
        words = (block[start] % (1 << 16) << 16 | masks).astype(np.uint32)
        return Matrix(Level(self.put(table), self.put(words)), self.values(A.data))


@dataclass
class Kernel:
    """A descriptor builder."""

    memory: Memory
    fields: dict[str, int]
    loops: int = 0
    scanners: int = 0

    @classmethod
    def of(cls, memory: Memory, values: Sequence[int | None], leaf: LeafMode) -> "Kernel":
        """Begin a kernel on operands with values at these addresses."""
        fields: dict[str, int] = {"leaf_mode": leaf, "accumulate": 1}
        for o, address in enumerate(values):
            fields |= {f"operand.{o}.used": 1, f"operand.{o}.values": address or 0}
        return cls(memory, fields)

    def loop(
        self,
        size: int,
        cells: Cells,
        result: tuple[ResultMode, int] = (ResultMode.HOLD, 0),
        *,
        ones: int | None = None,
        table: int | None = None,
        leaf: bool = False,
    ) -> None:
        """Add a loop; ``table`` is both tables, for a product if not given."""
        r = self.memory.config.rows - 1 if leaf else self.loops
        self.loops += 1
        product = 1 << (1 << len(cells)) - 1
        row = f"row.{r}"
        self.fields |= {
            f"{row}.size": size,
            f"{row}.block_table": product if table is None else table,
            f"{row}.lane_table": product if table is None else table,
            f"{row}.result_mode": result[0],
            f"{row}.result_step": result[1],
        }
        if ones is not None:
            self.fields[f"{row}.cell.{ones}.ones"] = 1
        for o, cell in enumerate(cells):
            if isinstance(cell, Level):
                scan = f"dispatch.{o}" if r == 0 else f"scanner.{self.scanners}"
                self.fields |= {
                    f"{row}.cell.{o}.mode": CellMode.SCAN,
                    f"{row}.cell.{o}.step": 1,
                    f"{scan}.table": cell.table,
                    f"{scan}.blocks": cell.blocks,
                }
                if r:
                    self.fields[f"{row}.cell.{o}.scanner"] = self.scanners
                    self.scanners += 1
            elif isinstance(cell, CellMode):
                self.fields[f"{row}.cell.{o}.mode"] = cell
            else:
                self.fields[f"{row}.cell.{o}.mode"] = CellMode.FOLLOW
                self.fields[f"{row}.cell.{o}.step"] = cell

    def descriptor(
        self, *, fibers: int, size: int, drain_stop: int, compressed: bool, **result: int
    ) -> dict[str, int]:
        """Return the descriptor, with regions for a result of `fibers` fibers of `size`
        coordinates.
        """
        rows, memory = self.memory.config.rows, self.memory
        self.fields |= {f"row.{r}.bypass": 1 for r in range(self.loops - 1, rows - 1)}
        count = fibers * (size + LANES)
        self.fields |= {
            "drain_stop": drain_stop,
            "result.compressed": compressed,
            "result.size": size,
            "result.table": memory.reserve(16 * fibers),
            "result.table_end": memory.free,
            "result.blocks": memory.reserve(4 * count),
            "result.blocks_end": memory.free,
            "result.values": memory.reserve(4 * count),
            "result.values_end": memory.free,
        }
        self.fields |= rings(memory.config)
        self.fields |= {f"result.{name}": value for name, value in result.items()}
        fields = {path: int(value) for path, value in self.fields.items()}
        return unpack(memory.config, pack(memory.config, fields))


def rings(config: ChipConfig) -> dict[str, int]:
    """Return equal rings of all streams, as fields of the descriptor."""
    size = config.pool_lines // config.pool_streams
    found = {}
    for s in range(config.pool_streams):
        found |= {f"ring.{s}.base": s * size, f"ring.{s}.last": (s + 1) * size - 1}
    return found


def wide(config: ChipConfig) -> Any:
    """Return the type of wide values."""
    return np.int32 if config.dtype is NumberFormat.INT8 else np.float32


def read_compressed(
    memory: Memory, d: dict[str, int], fibers: int, size: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a compressed result, one row per fiber, and its pattern."""
    dense = np.zeros((fibers, size), wide(memory.config))
    pattern = np.zeros((fibers, size), np.bool_)
    table = memory.image.view(d["result.table"], 4 * fibers, np.uint32).reshape(fibers, 4)
    for i, (first, child, end, _) in enumerate(table.tolist()):
        words = memory.image.view(d["result.blocks"] + 4 * first, end - first, np.uint32)
        keys = [
            16 * (int(w) >> 16) + lane for w in words for lane in range(16) if int(w) >> lane & 1
        ]
        pattern[i, keys] = True
        dense[i, keys] = memory.image.view(
            d["result.values"] + 4 * child, len(keys), wide(memory.config)
        )
    return dense, pattern


def read_dense(memory: Memory, d: dict[str, int], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a dense result of wide values."""
    count = int(np.prod(shape))
    return memory.image.view(d["result.values"], count, wide(memory.config)).reshape(shape)
