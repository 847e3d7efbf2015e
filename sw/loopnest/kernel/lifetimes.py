"""Memory that is used again: blocks of which those that are needed at the same time lie apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from loopnest_hw.config import LINE_BYTES


@dataclass(frozen=True)
class Block:
    """Bytes that are needed from one step to another, both included."""

    nbytes: int
    first: int
    last: int


def overlay(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Return an offset for each block, and the bytes that all take; lines are not shared.

    The largest block is placed first, each at the lowest offset that is free in its steps.
    """
    offsets = [0] * len(blocks)
    placed: list[tuple[int, int, Block]] = []  # first byte, end
    for n in sorted(range(len(blocks)), key=lambda n: -blocks[n].nbytes):
        own = blocks[n]
        size = -(-own.nbytes // LINE_BYTES) * LINE_BYTES
        others = (p for p in placed if p[2].first <= own.last and own.first <= p[2].last)
        at = 0
        for first, end, _ in sorted(others, key=lambda p: p[0]):
            if first - at >= size:
                break
            at = max(at, end)
        offsets[n] = at
        placed.append((at, at + size, own))
    return offsets, max((end for _, end, _ in placed), default=0)
