"""What the cache reads ahead when a kernel starts, before a PE asks for it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import PREFETCHES

PORT_LINES = 192
"""Lines that each memory port reads ahead: at a latency of 100, those for which it has time until a
PE asks for its first value, a position and a block after the start (measured).
"""

CACHE_SHARE = 4
"""They fill at most this part of the cache."""

MIN_USE = 0.5
"""Reads of an array's lines, as a share of its lines, from which on it is read ahead: of an array
that a kernel mostly skips, the first lines may not be needed.
"""


@dataclass(frozen=True)
class Read:
    """An array that a kernel reads: its byte address, its bytes, and the lines of it that are
    expected to be read, each counted as often as it is.
    """

    address: int
    nbytes: int
    lines: float


def prefetch_fields(config: ChipConfig, reads: Iterable[Read]) -> dict[str, int]:
    """Return the descriptor's ``prefetch`` fields: the first lines of the arrays, which are given
    in the order in which a PE needs them. Short ones are read whole, the others as far as each
    other.
    """
    if not config.cached:
        return {}
    lines: dict[int, int] = {}
    for read in reads:
        size = -(-read.nbytes // LINE_BYTES)
        if size and read.lines >= MIN_USE * size and len(lines) < PREFETCHES:
            lines.setdefault(read.address, size)
    left = min(PORT_LINES * config.memory_ports, config.cache_lines // CACHE_SHARE)
    share = dict(_shares(lines, left))
    fields: dict[str, int] = {}
    for n, address in enumerate(lines):
        fields |= {f"prefetch.{n}.address": address, f"prefetch.{n}.lines": share[address]}
    return fields


def _shares(lines: dict[int, int], left: int) -> Iterator[tuple[int, int]]:
    """Yield the lines of each array, the shortest first, of ``left`` in all."""
    for waiting, address in zip(
        range(len(lines), 0, -1), sorted(lines, key=lines.__getitem__), strict=True
    ):
        taken = min(lines[address], left // waiting)
        left -= taken
        yield address, taken
