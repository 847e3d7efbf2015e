"""Scanners for the scanned cells, and each stream's ring of lines in the pool."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, combinations
from math import ceil, hypot, sqrt
from typing import TypeAlias

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import CellMode

from ..cost.estimate import Estimate
from ..cost.lines import Burst
from ..expression.split import OneKernelError
from ..nest.nest import Nest

LATENCY = 100
"""Memory latency in cycles for which a nest is planned by default."""

Stream: TypeAlias = tuple[int, float, Burst | None]
"""A read stream's number, its expected lines, and their burst."""

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
    latency: int = LATENCY,
    *,
    keeping: bool = True,
) -> list[tuple[int, int]]:
    """Return each ring's first and last line, in the order positions and blocks of each scanner,
    then each operand's values, then the epilogue; lines are allocated in proportion to the expected
    reads, or some bursts of values get theirs first, where that is expected to take fewer cycles.

    Where values are ``keeping`` lines, those that are read come close together, and need more room
    than their number says: the geometric mean with all lines (measured).
    """
    streams = list(_streams(config, scanners, expected))
    weight = [0.0] * config.pool_streams
    for number, lines, _ in streams:
        weight[number] = lines
    if keeping:
        for c, share in expected.read_shares.items():
            weight[2 * config.scanners + c] *= sqrt(share)
    weight[-1] = epilogue_lines
    lengths = _shares(config.pool_lines, weight)
    first_value = 2 * config.scanners
    bursts = {
        n: ceil(burst.lines)
        for n, _, burst in streams
        if n >= first_value and burst is not None and burst.lines > lengths[n]
    }
    if bursts:
        choices = [
            _shares(config.pool_lines, weight, {n: bursts[n] for n in some})
            for count in range(len(bursts) + 1)
            for some in combinations(bursts, count)
        ]
        slowest = max(n for name, n in expected.stages.items() if name != "rings")

        def cycles(choice: list[int]) -> float:
            even, waits = _cycles(config, streams, expected, choice, latency)
            return max(slowest, even) + waits

        lengths = min((choice for choice in choices if choice), key=cycles)
    ends = list(accumulate(lengths))
    return [(end - length, end - 1) for length, end in zip(lengths, ends, strict=True)]


def ring_cycles(
    config: ChipConfig, scanners: dict[tuple[int, int], int], expected: Estimate, latency: int
) -> tuple[float, float]:
    """Return the cycles that the busiest ring takes for its lines, at a memory latency: it has as
    many lines in flight as its length. And those in which everything waits for lines that come in
    bursts; bursts of different streams overlap in part.
    """
    rings = share_pool(config, scanners, expected, 0.0, latency, keeping=False)
    lengths = [last - first + 1 for first, last in rings]
    streams = list(_streams(config, scanners, expected))
    return _cycles(config, streams, expected, lengths, latency)


def _cycles(
    config: ChipConfig,
    streams: Sequence[Stream],
    expected: Estimate,
    lengths: Sequence[int],
    latency: int,
) -> tuple[float, float]:
    """Return the cycles of the busiest ring and those of bursts, given the rings' lengths."""
    trip = latency + ROUND_TRIP
    steps = max(expected.stages["leaf"], expected.stages[f"join {config.rows - 1}"])
    even, waits = [0.0], []
    for number, lines, burst in streams:
        even.append(lines * trip / lengths[number])
        if burst is not None:
            waits.append(burst.cycles(lengths[number], trip, steps))
    return max(even), hypot(*waits)


def _streams(
    config: ChipConfig, scanners: dict[tuple[int, int], int], expected: Estimate
) -> Iterator[Stream]:
    """Yield the read streams."""
    bursts = expected.bursts
    for cell, s in scanners.items():
        yield 2 * s, expected.position_lines[cell], bursts.get(("positions", *cell))
        yield 2 * s + 1, expected.block_lines[cell], bursts.get(("blocks", *cell))
    for c, lines in expected.value_lines.items():
        yield 2 * config.scanners + c, lines, bursts.get(("values", c))


def _shares(
    lines: int, weight: Sequence[float], given: Mapping[int, int] | None = None
) -> list[int]:
    """Allocate lines by weight, at least `MIN_LINES` each, with what is ``given`` to some; nothing
    if too few are left for the others.
    """
    given = given or {}
    others = [0.0 if n in given else w for n, w in enumerate(weight)]
    free, count = lines - sum(given.values()), len(weight) - len(given)
    least = max(MIN_LINES, int(EVEN_SHARE * free) // max(1, count))
    shares = [given.get(n, least if w else MIN_LINES) for n, w in enumerate(others)]
    spare = lines - sum(shares)
    if spare < 0:
        return []
    total = sum(others)
    if total:
        shares = [share + int(spare * w / total) for share, w in zip(shares, others, strict=True)]
        # Lines left by rounding go to the heaviest.
        shares[others.index(max(others))] += lines - sum(shares)
    return shares
