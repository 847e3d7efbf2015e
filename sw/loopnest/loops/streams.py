"""Scanners for the scanned cells, and each stream's ring of lines in the pool."""

from collections.abc import Iterator
from math import hypot

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import CellMode

from ..cost.estimate import Estimate
from ..cost.lines import Burst
from ..expression.split import OneKernelError
from .nest import Nest

MIN_LINES = 2
"""Lines of every ring."""

EVEN_SHARE = 0.35
"""Part of the pool that is divided equally among the streams in use: a stream with few lines needs
them in time, too.
"""

ROUND_TRIP = 12
"""Cycles from a line's request to the next one for the same slot, in addition to the memory's
latency.
"""


class CrowdedError(OneKernelError):
    """A nest scans more compressed levels than the chip can at once."""


def assign_scanners(config: ChipConfig, nest: Nest) -> dict[tuple[int, int], int]:
    """Return the scanner of each scanned cell below row 0, by (row, column).

    Raises
    ------
    CrowdedError
        If there are more such cells than scanners.
    """
    cells = [
        (row.number, c)
        for row in nest.rows
        for c, cell in enumerate(row.cells)
        if cell.mode is CellMode.SCAN and row.number
    ]
    if len(cells) > config.scanners:
        raise CrowdedError(
            f"{len(cells)} compressed levels below the first loop: this chip scans "
            f"{config.scanners} at once; make some of them dense"
        )
    return {cell: s for s, cell in enumerate(cells)}


def share_pool(
    config: ChipConfig,
    scanners: dict[tuple[int, int], int],
    expected: Estimate,
    epilogue_lines: float,
) -> list[tuple[int, int]]:
    """Return each ring's first and last line, in the order positions and blocks of each scanner,
    then each operand's values, then the epilogue; lines are allocated in proportion to the expected
    reads.
    """
    weight = [0.0] * config.pool_streams
    for number, lines, _ in _streams(config, scanners, expected):
        weight[number] = lines
    weight[-1] = epilogue_lines
    rings: list[tuple[int, int]] = []
    base = 0
    for length in _shares(config.pool_lines, weight):
        rings.append((base, base + length - 1))
        base += length
    return rings


def ring_cycles(
    config: ChipConfig, scanners: dict[tuple[int, int], int], expected: Estimate, latency: int
) -> tuple[float, float]:
    """Return the cycles that the busiest ring takes for its lines, at a memory latency: it has as
    many lines in flight as its length. And those in which everything waits for lines that come in
    bursts; bursts of different streams overlap in part.
    """
    rings = share_pool(config, scanners, expected, 0.0)
    trip = latency + ROUND_TRIP
    steps = max(expected.stages["leaf"], expected.stages[f"join {config.rows - 1}"])
    even, waits = [0.0], []
    for number, lines, burst in _streams(config, scanners, expected):
        first, last = rings[number]
        length = last - first + 1
        even.append(lines * trip / length)
        if burst is not None:
            waits.append(burst.cycles(length, trip, steps))
    return max(even), hypot(*waits)


def _streams(
    config: ChipConfig, scanners: dict[tuple[int, int], int], expected: Estimate
) -> Iterator[tuple[int, float, Burst | None]]:
    """Yield each read stream's number, its expected lines, and their burst."""
    bursts = expected.bursts
    for cell, s in scanners.items():
        yield 2 * s, expected.position_lines[cell], bursts.get(("positions", *cell))
        yield 2 * s + 1, expected.block_lines[cell], bursts.get(("blocks", *cell))
    for c, lines in expected.value_lines.items():
        yield 2 * config.scanners + c, lines, bursts.get(("values", c))


def _shares(lines: int, weight: list[float]) -> list[int]:
    """Allocate lines by weight, at least `MIN_LINES` each."""
    least = max(MIN_LINES, int(EVEN_SHARE * lines) // len(weight))
    shares = [least if w else MIN_LINES for w in weight]
    spare = lines - sum(shares)
    total = sum(weight)
    if not total:
        return shares
    shares = [share + int(spare * w / total) for share, w in zip(shares, weight, strict=True)]
    # Lines left by rounding go to the heaviest.
    shares[weight.index(max(weight))] += lines - sum(shares)
    return shares
