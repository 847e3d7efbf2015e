"""The estimate of a nest's cost, from the contents of the operands' levels.

Tokens, scanned words, merged blocks and products are counted from the operands' coordinates
(`loopnest.cost.relation`): exactly, except for cycles of three sparse operands. Quantities that
only the golden model computes are estimated: how a result's terms share blocks, where an
intersection's lanes lie, how often a line is read again. The estimate determines the loop order,
the rings' sizes, the capacity of the result and the cycle budget; a result depends on it only
through the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import expm1, prod

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.accumulate.place import BANKS
from loopnest_hw.config import LANES, LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import CellMode, LeafMode
from loopnest_hw.format import (
    CHUNK_LANES,
    ENTRY_WORDS,
    LINE_WORDS,
    OPEN_STRIDE,
    PACKED_STRIDE,
    WORD_BYTES,
)

from ..expression.stored import Stored
from ..formats.pack import COMPRESSED
from ..formats.profile import Profile
from ..formats.tensor import Tensor
from ..named import named
from ..nest.nest import Nest
from ..nest.result import ResultPlan
from .counts import Counts
from .joins import Joins
from .lines import Burst, Fibers, child_gaps, read_share, value_lines

START = 70
"""Cycles of a kernel's start and end, at no memory latency."""

SCANNING = 25
"""Further ones for each row that scans."""

TRIPS = 2
"""Memory latencies until the first token of a row that scans leads to one for the row below: of a
position, and of a block word; as many for the first values and the last results.
"""

OPEN = 45
"""Cycles that the accumulator keeps a result fiber open, in addition to the memory's latency: it
looks blocks up as soon as their coordinates are known.
"""

LOOKUP = 15
"""Cycles from a fiber's request to its first block, in addition to two memory latencies."""

PAIR = 2
"""Block words of a fiber that the leaf takes in one cycle."""

ONES_CYCLES = 1.6
"""Measured minimum cycles of an all-ones leaf fiber."""

OTHERS = 0.02
"""Share of the cycles of all other stages that does not overlap with the slowest stage."""


@named
@dataclass
class Estimate:
    """Expected work.

    Attributes
    ----------
    stages : mapping of str to float
        Cycles of each stage by itself, without memory latency.
    drain_last : float
        Cycles of the last result fiber's drain, after everything else is done.
    held : float
        Blocks that a result fiber may have at once.
    multiplies : float
        Lanes of leaf steps.
    entries : float
        Touched coordinates of the result, over all fibers.
    ended : float
        Result fibers whose end reaches the result path, including empty ones.
    opened : float
        Those that have terms.
    reached : float
        Rows that scan and that a token reaches.
    scans : mapping of (row, column) to float
        Fibers of a scanned cell.
    position_lines, block_lines : mapping of (row, column) to float
        Lines of a scanned cell's table and block words.
    value_lines : mapping of column to float
        Lines of an operand's values, as if its stream kept none.
    read_shares : mapping of column to float
        The share of them that are read because they are not kept, as far as it is known. The
        stages and the number of all lines do not depend on it.
    bursts : mapping of (name, ...) to Burst
        Those of streams whose lines are not evenly distributed over time: ``"positions"`` or
        ``"blocks"`` with row and column, ``"values"`` with the column.
    waits : float
        Cycles in which everything waits for such lines.
    """

    stages: dict[str, float] = field(default_factory=dict)
    drain_last: float = 0.0
    held: float = 0.0
    multiplies: float = 0.0
    entries: float = 0.0
    ended: float = 0.0
    opened: float = 0.0
    reached: float = 0.0
    scans: dict[tuple[int, int], float] = field(default_factory=dict)
    position_lines: dict[tuple[int, int], float] = field(default_factory=dict)
    block_lines: dict[tuple[int, int], float] = field(default_factory=dict)
    value_lines: dict[int, float] = field(default_factory=dict)
    read_shares: dict[int, float] = field(default_factory=dict)
    bursts: dict[tuple[str | int, ...], Burst] = field(default_factory=dict)
    waits: float = 0.0

    @property
    def cycles(self) -> float:
        """Cycles without memory latency."""
        slowest = max(self.stages.values(), default=0.0)
        others = sum(self.stages.values()) - slowest
        return START + slowest + OTHERS * others + self.waits + self.drain_last

    @property
    def lines(self) -> float:
        """All lines read."""
        tables = [self.position_lines, self.block_lines]
        return sum(sum(t.values()) for t in tables) + sum(self.value_lines.values())


@dataclass(frozen=True)
class Visits:
    """The input of a row: tokens that lead to a term, tokens in which each column is present, and
    null tokens of empty fibers above.
    """

    tokens: float
    present: tuple[float, ...]
    null: float


def estimate(
    config: ChipConfig,
    nest: Nest,
    profiles: Sequence[Profile],
    wide: Sequence[bool],
    result: ResultPlan,
    counts: Counts,
) -> Estimate:
    """Estimate a nest whose column c holds ``profiles[c]``; ``counts`` are shared with others."""
    found = Estimate()
    joins = Joins(nest, profiles, counts)
    columns = range(len(nest.columns))
    visits = Visits(1.0, (1.0,) * len(columns), 0.0)
    loops: tuple[str, ...] = ()
    fibers = [Fibers(1.0, np.ones(1))] * len(columns)
    work: list[tuple[float, float, float]] = []
    for row in nest.rows:
        below = loops if row.index is None else (*loops, row.index)
        kept = joins.tokens(below)
        present = tuple(joins.tokens(below, {c}) for c in columns)
        filled = joins.filled(loops, row)
        empty = visits.tokens - filled + visits.null
        if set(loops) == set(result.fiber_loops):
            found.ended, work = visits.tokens + visits.null, []
        work.append((visits.tokens, filled, kept))
        leaf = row is nest.rows[-1]
        merged = joins.merged(loops, row, PAIR if leaf else 1)
        words = joins.words(loops, row)
        passed_on = joins.passed_on(loops, row)
        if any(cell.mode is CellMode.SCAN for cell in row.cells):
            found.reached += min(1.0, visits.tokens)
        for c, cell in enumerate(row.cells):
            if cell.mode is CellMode.SCAN and cell.level is not None:
                at = (row.number, c)
                of_fiber = words[c] / max(1.0, visits.present[c])
                found.scans[at] = visits.present[c]
                found.position_lines[at] = fibers[c].lines(
                    visits.present[c], ENTRY_WORDS, PACKED_STRIDE, LINE_WORDS
                )
                found.block_lines[at] = min(
                    words[c], fibers[c].lines(visits.present[c], of_fiber, of_fiber, LINE_WORDS)
                )
                for name, span in (("positions", ENTRY_WORDS), ("blocks", of_fiber)):
                    burst = fibers[c].burst(visits.present[c], span, LINE_WORDS)
                    if burst is not None and row.number:
                        found.bursts[name, row.number, c] = burst
                stream = max(visits.present[c], found.position_lines[at], found.block_lines[at])
                found.stages[f"scan {row.number} {c}"] = max(stream, passed_on[c] / 2)
        joined = max(merged + visits.null, filled + empty)
        if leaf and any(cell.ones for cell in row.cells):
            joined = max(joined, ONES_CYCLES * visits.tokens)
        found.stages[f"join {row.number}"] = joined
        if leaf:
            steps = joins.steps(config, result, loops, row)
            found.multiplies = kept
            found.stages["leaf"] = steps + empty
            blocks = joins.kept_blocks(loops, row)
            for c, cell in enumerate(row.cells):
                size = 4 if wide[c] else config.dtype.narrow_bytes
                lines, burst = value_lines(
                    cell,
                    profiles[c],
                    fibers[c],
                    visits.present[c] * filled / max(1.0, visits.tokens),
                    present[c],
                    blocks if any(words) else 0.0,
                    size,
                )
                found.value_lines[c] = lines
                found.read_shares[c] = read_share(
                    row, profiles, c, fibers[c], size, config.kept_lines
                )
                if burst is not None:
                    found.bursts["values", c] = burst
                gathers = cell.mode is CellMode.FOLLOW and LANES * cell.step * size <= LINE_BYTES
                cycles = joins.gathers(config, result, loops, row) if gathers else steps
                found.stages[f"values {c}"] = max(cycles, lines)
        else:
            found.stages[f"expand {row.number}"] = kept + empty
        for c, cell in enumerate(row.cells):
            if cell.level is not None:
                gaps = child_gaps(row, profiles, c, visits.present[c] / max(1.0, present[c]))
                fibers[c] = Fibers(present[c], cell.step * gaps)
        visits, loops = Visits(kept, present, empty), below
    found.opened = work[0][0] * _alive(work)
    found.stages["fetch"] = found.lines
    terms = found.multiplies
    if result.leaf_mode is LeafMode.DOT:
        terms = blocks = filled
    _result(config, result, terms, blocks, found)
    return found


def fits(config: ChipConfig, result: ResultPlan, expected: Estimate) -> bool:
    """Return whether a result fits the accumulator: it may take further passes, or needs none."""
    return result.replayable or expected.held <= config.slots


def product_lanes(columns: Sequence[Stored], tensors: Sequence[Tensor]) -> int | None:
    """Return the exact number of lanes of a product of two: over the coordinates of the indices
    they share, the products of their numbers of entries. None if that takes too long to compute.
    """
    shared = sorted(set(columns[0].indices) & set(columns[1].indices))
    sizes = [columns[0].sizes[columns[0].indices.index(i)] for i in shared]
    if prod(sizes) >= 1 << 62:
        return None
    sparse = [n for n, tensor in enumerate(tensors) if COMPRESSED in tensor.levels]
    free = [prod(s.sizes) // max(1, prod(sizes)) for s in columns]
    if not sparse:
        return prod(sizes) * free[0] * free[1]
    if len(sparse) == 1:
        return tensors[sparse[0]].nnz * free[1 - sparse[0]]
    counts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for stored, tensor in zip(columns, tensors, strict=True):
        coordinates, _ = tensor.stored_entries()
        key = np.zeros(len(coordinates[0]), np.int64)
        for index, size in zip(shared, sizes, strict=True):
            key = key * size + coordinates[stored.access.indices.index(index)]
        counts.append(np.unique(key, return_counts=True))
    (a, a_count), (b, b_count) = counts
    _, in_a, in_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return int((a_count[in_a] * b_count[in_b]).sum())


def several_cycles(config: ChipConfig, expected: Estimate) -> float:
    """Return `Estimate.cycles` of a nest that the chip's PEs share: its work is divided, as far as
    the memory ports can write the result.
    """
    written = expected.stages.get("write", 0.0) / config.memory_ports
    return START + max((expected.cycles - START) / config.pes, written)


def start_cycles(expected: Estimate, latency: int) -> float:
    """Return the cycles in which the first token and the last result pass all rows, in addition to
    `START`: each row that scans waits for the memory, if a token reaches it, and so do the values.
    """
    trips = expected.reached + min(1.0, expected.multiplies)
    return SCANNING * expected.reached + (1 + TRIPS * trips) * latency


def latency_cycles(
    config: ChipConfig, nest: Nest, result: ResultPlan, expected: Estimate, latency: int
) -> dict[str, float]:
    """Return the cycles of the stages that are limited by memory latency, with the maximum in
    flight.
    """
    found = {}
    if result.accumulate and expected.ended:
        # fibers without terms wait for those before them, if any of these waits for the memory, and
        # only when there is no room for more
        ring = config.passes_ended
        some = 1 - (1 - min(1.0, expected.opened / expected.ended)) ** ring
        beyond = some * max(0.0, expected.ended - ring)
        share = max(expected.opened / config.fibers_in_flight, beyond / ring)
        found["open"] = share * (latency + OPEN)
    for (row, column), fibers in expected.scans.items():
        if row:
            found[f"ahead {row} {column}"] = fibers * (2 * latency + LOOKUP) / config.fifo_depth
    return found


def _alive(work: Sequence[tuple[float, float, float]]) -> float:
    """Return the share of a row's tokens that lead to a term, given, for it and each row below, its
    tokens, how many of them have coordinates there, and how many tokens these expand to.
    """
    share = 1.0
    for tokens, filled, kept in reversed(work):
        if not filled:
            return 0.0
        share = filled / tokens * (1 - (1 - share) ** max(1.0, kept / filled))
    return share


def _drained(share: float, lanes: float) -> float:
    """Return the drained items per block of the result, if a share of the blocks is touched at
    random, with `lanes` lanes each: two of a directory word are one item, unless they share a lane.
    """
    touched = share * BANKS
    walked = touched / 2 + -expm1(-2 * touched) / 4
    shares_lane = 1 - (1 - min(lanes, LANES) / LANES) ** lanes
    return (walked + (touched - walked) * shares_lane) / BANKS


def _result(
    config: ChipConfig,
    result: ResultPlan,
    terms: float,
    term_blocks: float,
    found: Estimate,
) -> None:
    """Estimate the result path: touched blocks and coordinates, the drain, and lines written; terms
    are assumed to be at random places of the result.
    """
    space = float(result.fibers) * result.span
    if not space:
        return
    of_fiber = -(-result.span // LANES)
    every = float(result.fibers) * of_fiber
    found.held = min(float(of_fiber), terms)
    if result.accumulate:
        found.entries = space * -expm1(-terms / space)
        blocks = min(found.entries, every * -expm1(-term_blocks / every))
    else:
        found.entries = min(space, terms)
        blocks = min(terms, term_blocks, every)
    items = blocks
    if result.accumulate:
        if result.compressed and not result.full and blocks:
            items = _drained(blocks / every, found.entries / blocks) * every
        opened = max(1.0, found.opened)
        found.stages["drain"] = items
        found.drain_last = items / opened
        passes = blocks / opened / config.slots
        if passes > 1:
            for stage in found.stages:
                found.stages[stage] *= passes
    values = found.entries * 4 / LINE_BYTES
    # entries of successive fibers are neighbours
    of_line = LINE_BYTES / (OPEN_STRIDE * WORD_BYTES)
    entries = found.ended / (1 + (of_line - 1) * found.ended / result.fibers)
    lines = values + (entries + blocks / LINE_WORDS if result.compressed else 0.0)
    found.stages["write"] = max(lines, items, found.entries / CHUNK_LANES)
