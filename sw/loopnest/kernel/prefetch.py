"""What the cache reads ahead when a kernel starts, before a PE asks for it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import PREFETCHES

PORT_LINES = 192
"""Lines that each memory port reads ahead: at a latency of 100, those for which it has time until a
PE asks for its first value, a position and a block after the start (measured).
"""

REUSE = 2
"""Reads of an array's lines, as a multiple of its lines, from which on it is reused."""

REUSED_LINES = 256
"""Lines of reused arrays that each memory port reads ahead, in addition. Such an array is read
whole if it is that short: wherever a line of it has to come from memory, every PE at neighbouring
coordinates waits for it. More of a long one delays what is needed first (measured).
"""

CACHE_SHARE = 4
"""Reused arrays fill at most one in so many lines of the cache, and so do the others."""

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
    in the order in which a PE needs them. Reused arrays (`REUSE`) have room of their own, and come
    last. Of either kind the short ones are read whole, and the others share equally what is left.
    """
    if not config.cached:
        return {}
    size: dict[int, int] = {}
    expected: dict[int, float] = {}
    for read in reads:
        lines = -(-read.nbytes // LINE_BYTES)
        size[read.address] = max(size.get(read.address, 0), lines)
        expected[read.address] = max(expected.get(read.address, 0.0), read.lines)
    worth = [a for a, n in size.items() if n and _worth(n, expected[a])][:PREFETCHES]
    once = {a: size[a] for a in worth if expected[a] < REUSE * size[a]}
    reused = {a: size[a] for a in worth if a not in once}
    most = config.cache_lines // CACHE_SHARE
    share = {
        **dict(_shares(once, min(PORT_LINES * config.memory_ports, most))),
        **dict(_shares(reused, min(REUSED_LINES * config.memory_ports, most))),
    }
    fields: dict[str, int] = {}
    for n, address in enumerate([*once, *reused]):
        fields |= {f"prefetch.{n}.address": address, f"prefetch.{n}.lines": share[address]}
    return fields


def _worth(lines: int, expected: float) -> bool:
    """Return whether an array is read ahead: whatever part of a single line is read, it is one."""
    return expected >= MIN_USE * lines or (lines == 1 and expected > 0)


def _shares(lines: dict[int, int], left: int) -> Iterator[tuple[int, int]]:
    """Yield the lines of each array, the shortest first, of ``left`` in all."""
    for waiting, address in zip(
        range(len(lines), 0, -1), sorted(lines, key=lines.__getitem__), strict=True
    ):
        taken = min(lines[address], left // waiting)
        left -= taken
        yield address, taken
