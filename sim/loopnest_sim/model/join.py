"""Golden function of the joiner: merges fibers block by block, and applies the tables."""

from collections.abc import Sequence
from dataclasses import dataclass

LANES = 16


@dataclass(frozen=True)
class Word:
    """A block word of a fiber, with the number of coordinates before it."""

    coordinate: int
    mask: int
    rank: int


@dataclass(frozen=True)
class Joined:
    """A joined block: its kept lanes; masks and ranks are 0 for an operand without the block."""

    coordinate: int
    lanes: int
    mask: tuple[int, ...]
    rank: tuple[int, ...]


def join(
    fibers: Sequence[Sequence[Word]],
    present: Sequence[bool],
    joins: Sequence[bool],
    block_table: int,
    lane_table: int,
) -> list[Joined]:
    """Return the joined blocks of the fibers, ascending.

    ``fibers[o]`` is ignored if operand o has no join input: its bit of a presence pattern is then
    ``present[o]``. A lane that no fiber has is dropped. See docs/architecture.md, "A row".
    """
    operands = range(len(fibers))

    def pattern(bits: Sequence[bool]) -> int:
        return sum((bits[o] if joins[o] else present[o]) << o for o in operands)

    words = [{w.coordinate: w for w in fibers[o]} if joins[o] else {} for o in operands]
    blocks = []
    for coordinate in sorted(set().union(*words)):
        here = [words[o].get(coordinate) for o in operands]
        if not block_table >> pattern([w is not None for w in here]) & 1:
            continue
        mask = tuple(w.mask if w else 0 for w in here)
        lanes = sum(
            1 << lane
            for lane in range(LANES)
            if any(m >> lane & 1 for m in mask)
            and lane_table >> pattern([bool(m >> lane & 1) for m in mask]) & 1
        )
        if lanes:
            blocks.append(Joined(coordinate, lanes, mask, tuple(w.rank if w else 0 for w in here)))
    return blocks
