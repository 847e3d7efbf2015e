"""What a nest is expected to cost, from what the operands' levels hold.

Fibers of a level are taken as equally long, and their coordinates as spread independently of
other operands'. The estimate chooses the loop order, the
streams' shares of the pool, the room for the result and the cycle budget; no result depends on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, prod

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import CellMode
from loopnest_hw.format import LINE_WORDS, PACKED_STRIDE

from .nest import Cell, Nest, Row
from .operand import Stored
from .pack import COMPRESSED
from .profile import Profile
from .result import ResultPlan
from .tensor import Tensor

DENSE_ENOUGH = 0.5
"""Share of a fiber's children visited from which on they are read in sequence."""


@dataclass
class Estimate:
    """Expected work.

    Attributes
    ----------
    cycles : float
        Of the slowest row, with some of the others.
    multiplies : float
        Lanes with work.
    entries : float
        Touched coordinates of the result, over all fibers.
    position_lines, block_lines : mapping of (row, column) to float
        Lines of a scanned cell's table and block words.
    value_lines : mapping of column to float
        Lines of an operand's values.
    """

    cycles: float = 0.0
    multiplies: float = 0.0
    entries: float = 0.0
    position_lines: dict[tuple[int, int], float] = field(default_factory=dict)
    block_lines: dict[tuple[int, int], float] = field(default_factory=dict)
    value_lines: dict[int, float] = field(default_factory=dict)

    @property
    def lines(self) -> float:
        """All lines read."""
        tables = [self.position_lines, self.block_lines]
        return sum(sum(t.values()) for t in tables) + sum(self.value_lines.values())


def estimate(
    config: ChipConfig,
    nest: Nest,
    profiles: Sequence[Profile],
    wide: Sequence[bool],
    result: ResultPlan,
) -> Estimate:
    """Estimate a nest whose column c holds ``profiles[c]``."""
    found = Estimate()
    columns = len(nest.columns)
    tokens = {(1 << columns) - 1: 1.0}
    in_sequence = [True] * columns
    row_cycles: list[float] = []
    total = 1.0
    for row in nest.rows:
        leaf = row is nest.rows[-1]
        present = [sum(n for p, n in tokens.items() if p >> c & 1) for c in range(columns)]
        kept, coordinates = _join(nest, row, tokens, profiles)
        cycles = sum(tokens.values())
        words = [0.0] * columns
        for c, cell in enumerate(row.cells):
            if cell.mode is CellMode.SCAN and cell.level is not None:
                words[c] = present[c] * profiles[c].blocks(cell.level)
                _scan(found, (row.number, c), words[c], present[c], in_sequence[c])
                cycles = max(cycles, words[c] / 2)
        visited = present_after(kept, columns)
        if leaf:
            lanes = sum(kept.values())
            fibers = sum(tokens.values())
            found.multiplies = lanes
            cycles = max(cycles, lanes / config.multipliers + min(fibers, lanes) / 2)
            for c, cell in enumerate(row.cells):
                size = 4 if wide[c] else config.dtype.narrow_bytes
                found.value_lines[c] = _value_lines(
                    cell, profiles[c], visited[c], present[c], coordinates * row.size, size,
                    max(words), in_sequence[c],
                )  # fmt: skip
        else:
            cycles = max(cycles, sum(kept.values()))
        for c, cell in enumerate(row.cells):
            if cell.level is not None:
                reach = present[c] * profiles[c].fill(cell.level)
                in_sequence[c] = visited[c] >= DENSE_ENOUGH * reach
        tokens = kept
        total = sum(tokens.values())
        row_cycles.append(cycles)
    space = float(result.fibers) * result.span
    found.entries = space * -_expm1(-total / space) if space else 0.0
    found.cycles = max(row_cycles) + 0.1 * sum(row_cycles)
    if result.accumulate and result.fibers:
        blocks = min(found.entries / result.fibers, -(-result.span // LANES))
        found.cycles *= max(1.0, blocks / config.slots)
    return found


def product_lanes(columns: Sequence[Stored], tensors: Sequence[Tensor]) -> int | None:
    """Return the exact number of lanes of a product of two: over the coordinates of the indices
    they share, the products of their numbers of entries. None where that is too long to tell.
    """
    shared = sorted(set(columns[0].indices) & set(columns[1].indices))
    sizes = [columns[0].sizes[columns[0].indices.index(i)] for i in shared]
    if prod(sizes) >= 1 << 62:
        return None
    counts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for stored, tensor in zip(columns, tensors, strict=True):
        if COMPRESSED not in tensor.levels:
            continue
        key = np.zeros(tensor.nnz, np.int64)
        coordinates, _ = tensor.stored_entries()
        for index, size in zip(shared, sizes, strict=True):
            key = key * size + coordinates[stored.access.indices.index(index)]
        counts.append(np.unique(key, return_counts=True))
    free = [prod(s.sizes) // max(1, prod(sizes)) for s in columns]
    if not counts:
        return prod(sizes) * free[0] * free[1]
    if len(counts) == 1:
        sparse = 0 if COMPRESSED in tensors[0].levels else 1
        return int(counts[0][1].sum()) * free[1 - sparse]
    (a, a_count), (b, b_count) = counts
    _, in_a, in_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return int((a_count[in_a] * b_count[in_b]).sum())


def _expm1(x: float) -> float:
    return exp(x) - 1 if x < -1e-6 else x


def _join(
    nest: Nest, row: Row, tokens: dict[int, float], profiles: Sequence[Profile]
) -> tuple[dict[int, float], float]:
    """Return the kept coordinates by presence, and the share of all coordinates that is kept."""
    kept: dict[int, float] = {}
    share = {
        c: profiles[c].fill(cell.level) / max(1, row.size)
        for c, cell in enumerate(row.cells)
        if cell.mode is CellMode.SCAN and cell.level is not None
    }
    for present, count in tokens.items():
        outcomes = {present: count * row.size}
        for c, p in share.items():
            if present >> c & 1:
                split = [(q, n * p) for q, n in outcomes.items()]
                split += [(q & ~(1 << c), n * (1 - p)) for q, n in outcomes.items()]
                outcomes = {}
                for q, n in split:
                    outcomes[q] = outcomes.get(q, 0.0) + n
        for q, n in outcomes.items():
            if nest.lane.needs(q):
                kept[q] = kept.get(q, 0.0) + n
    whole = sum(tokens.values()) * row.size
    return kept, sum(kept.values()) / whole if whole else 0.0


def present_after(kept: dict[int, float], columns: int) -> list[float]:
    """Return for each column the coordinates at which it is present."""
    return [sum(n for p, n in kept.items() if p >> c & 1) for c in range(columns)]


def _scan(
    found: Estimate, cell: tuple[int, int], words: float, fibers: float, in_sequence: bool
) -> None:
    """Note the lines of a scanned cell, by (row, column), that reads so many block words."""
    entries_a_line = LINE_WORDS / PACKED_STRIDE if in_sequence else 1
    found.position_lines[cell] = fibers / entries_a_line
    found.block_lines[cell] = words / LINE_WORDS + (0 if in_sequence else fibers)


def _value_lines(
    cell: Cell,
    profile: Profile,
    lanes: float,
    fibers: float,
    kept: float,
    size: int,
    words: float,
    in_sequence: bool,
) -> float:
    """Return the lines of an operand's values at the leaf, where the row reads so many block words
    and keeps so many coordinates of a fiber.
    """
    fiber_lines = 0.0 if in_sequence else min(fibers, lanes)
    if cell.level is None:
        return fibers * size / LINE_BYTES + fiber_lines
    if cell.mode is CellMode.FOLLOW and words:
        # lanes of a block are neighbours
        block_lines = max(1.0, LANES * cell.step * size / LINE_BYTES)
        return min(lanes, words * block_lines)
    # Children from one lane with work to the next.
    gap = max(1.0, profile.fill(cell.level) / kept) if kept else 1.0
    return lanes * min(1.0, gap * cell.step * size / LINE_BYTES) + fiber_lines
