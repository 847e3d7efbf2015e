"""Scanners for the scanned cells, and each stream's ring of lines in the pool."""

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import CellMode

from ..cost.estimate import Estimate
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
    for cell, s in scanners.items():
        weight[2 * s] = expected.position_lines[cell]
        weight[2 * s + 1] = expected.block_lines[cell]
    for c, lines in expected.value_lines.items():
        weight[2 * config.scanners + c] = lines
    weight[-1] = epilogue_lines
    rings: list[tuple[int, int]] = []
    base = 0
    for lines in _shares(config.pool_lines, weight):
        rings.append((base, base + lines - 1))
        base += lines
    return rings


def ring_cycles(
    config: ChipConfig, scanners: dict[tuple[int, int], int], expected: Estimate, latency: int
) -> float:
    """Return the cycles that the busiest ring takes for its lines, at a memory latency: it has as
    many lines in flight as its length. If lines come in bursts longer than the stream runs ahead,
    it waits in the bursts, and is idle between them.
    """
    rings = share_pool(config, scanners, expected, 0.0)
    lines = {2 * s: expected.position_lines[cell] for cell, s in scanners.items()}
    lines |= {2 * s + 1: expected.block_lines[cell] for cell, s in scanners.items()}
    lines |= {2 * config.scanners + c: n for c, n in expected.value_lines.items()}
    trip = latency + ROUND_TRIP
    wait = {s: n * trip / (rings[s][1] - rings[s][0] + 1) for s, n in lines.items()}
    steps = expected.stages["leaf"]
    for c, burst in expected.bursts.items():
        ring = 2 * config.scanners + c
        even = max(steps, wait[ring])
        apart = (1 - burst.share) * steps + wait[ring]
        wait[ring] = even + min(1.0, burst.steps / config.stream_depth) * max(0.0, apart - even)
    return max(wait.values())


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
