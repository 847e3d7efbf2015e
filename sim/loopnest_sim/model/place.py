"""Golden function of the placer: its lookups, and the places of the leaf's blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

from loopnest_hw.config import COORDINATE_BITS, POSITION_BITS
from loopnest_hw.descriptor import CellMode, LeafMode, ResultMode

from .address import PlacedBlock
from .expand import Cell, ResultCell, Token
from .join import LANES, Joined
from .skew import skew

EVERY_LANE = (1 << LANES) - 1
KEYS = 1 << COORDINATE_BITS
POSITIONS = 1 << POSITION_BITS


@dataclass(frozen=True)
class Leaf:
    """A kernel's leaf settings; ``inner`` is the number of loops below row 0."""

    cells: tuple[Cell, ...]
    result: ResultCell
    mode: LeafMode
    accumulate: bool
    copies: int
    drain_stop: int
    inner: int


@dataclass(frozen=True)
class Lookup:
    """Lanes of blocks that need slots; see `loopnest_hw.tokens.lookup`."""

    blocks: tuple[tuple[int, int], ...]
    """Number of each block, and its lanes."""
    end: bool
    retire: bool
    final: bool


@dataclass(frozen=True)
class Found:
    """The answer for a block: whether it is kept, its slot, and which of its lanes are new."""

    keep: bool
    slot: int
    first: int


@dataclass(frozen=True)
class Item:
    """Up to two blocks of a leaf fiber that wait for the accumulator's answer.

    ``lanes`` of each block are kept; the answer completes each `PlacedBlock`. ``lookup`` is None if
    the previous answer applies to this item too.
    """

    lanes: tuple[int, ...]
    blocks: tuple[PlacedBlock, ...]
    lookup: Lookup | None
    end: bool
    final: bool
    last: bool
    retires: bool


class Placer:
    """Computes the items of leaf fibers, in order; counts the fibers to select their copies."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._turn = 0  # leaf fibers of the open result fiber

    def place(
        self,
        context: Token,
        groups: Sequence[Sequence[Joined]],
        child: Sequence[int],
        *,
        stale: bool = False,
    ) -> list[Item]:
        """Return the items of one leaf fiber, whose blocks arrive in these groups.

        Of a ``stale`` fiber only its end remains, if a result fiber, row-0 token or nest ends with
        it.
        """
        leaf = self._leaf
        stop = context.stop + 1
        end, retire, final = stop >= leaf.drain_stop, stop >= leaf.inner, stop > leaf.inner
        copy = self._turn % (1 << leaf.copies)
        items = []
        groups = [()] if context.null else groups
        for n, group in enumerate(groups):
            last = n == len(groups) - 1
            blocks = () if context.null or stale else tuple(group)
            if not blocks and not (last and (end or retire or final)):
                continue
            keys = [self._key(context, block) for block in blocks]
            touched = [self._touched(k, copy, b) for k, b in zip(keys, blocks, strict=True)]
            asks = leaf.accumulate and (leaf.mode is not LeafMode.DOT or n == 0 or stale)
            ends = last or leaf.mode is LeafMode.DOT
            request = Lookup(
                tuple(touched),
                end and ends,
                retire and ends,
                final and ends,
            )
            if leaf.mode is not LeafMode.AXPY:
                request = Lookup(request.blocks[:1], request.end, request.retire, request.final)
            items.append(
                Item(
                    lanes=tuple(block.lanes for block in blocks),
                    blocks=tuple(
                        PlacedBlock(
                            block.mask,
                            self._base(context, block, child),
                            key // LANES,
                            EVERY_LANE,
                            self._index(key, number),
                        )
                        for key, block, (number, _) in zip(keys, blocks, touched, strict=True)
                    ),
                    lookup=request if asks else None,
                    end=end,
                    final=final,
                    last=last,
                    retires=retire and last and not leaf.accumulate,
                )
            )
        self._turn = 0 if end else self._turn + (not context.null)
        return items

    def _key(self, context: Token, block: Joined) -> int:
        """Return the key of a block's lane 0, or of its only lane (SCATTER)."""
        coordinate = LANES * block.coordinate
        if self._leaf.mode is LeafMode.SCATTER:
            coordinate += block.lanes.bit_length() - 1
        step = self._leaf.result.step if self._leaf.result.mode is ResultMode.KEY else 0
        return (context.key + coordinate * step) % KEYS

    def _touched(self, key: int, copy: int, block: Joined) -> tuple[int, int]:
        """Return the block that stands for the key's copy, and its lanes."""
        number = (key // LANES << self._leaf.copies) % (KEYS // LANES) | copy
        one = self._leaf.mode is not LeafMode.AXPY
        return number, 1 << key % LANES if one else block.lanes

    def _index(self, key: int, number: int) -> int:
        """Return the bank of the key, or the skew of the block's lanes (AXPY)."""
        lane = key % LANES if self._leaf.mode is not LeafMode.AXPY else 0
        return lane ^ (skew(number) if self._leaf.accumulate else 0)

    def _base(self, context: Token, block: Joined, child: Sequence[int]) -> tuple[int, ...]:
        """Return the position of each operand's value of lane 0."""
        bases = []
        for o, cell in enumerate(self._leaf.cells):
            base, number = context.position[o], 0
            if cell.mode is CellMode.SCAN:
                base, number = child[o], block.rank[o]
            elif cell.mode is CellMode.FOLLOW:
                number = LANES * block.coordinate
            bases.append((base + number * cell.step) % POSITIONS)
        return tuple(bases)


def answered(
    leaf: Leaf, item: Item, found: Sequence[Found]
) -> tuple[tuple[int, ...], tuple[PlacedBlock, ...]]:
    """Return an item's lanes and blocks with the accumulator's answer applied.

    In DOT, all blocks of a fiber have its first one's answer.
    """
    lanes, blocks = [], []
    for n, block in enumerate(item.blocks):
        answer = found[0 if leaf.mode is LeafMode.DOT else n]
        first = answer.first
        if leaf.mode is not LeafMode.AXPY and first:
            first = EVERY_LANE
        lanes.append(item.lanes[n] if answer.keep else 0)
        blocks.append(PlacedBlock(block.mask, block.base, answer.slot, first, block.index))
    return tuple(lanes), tuple(blocks)
