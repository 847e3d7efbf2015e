"""Golden function of the addresser: a step's lanes and the addresses of their values."""

from collections.abc import Sequence
from dataclasses import dataclass

from loopnest_hw.descriptor import CellMode

from .expand import Cell
from .join import LANES

ADDRESSES = 1 << 32


@dataclass(frozen=True)
class PlacedBlock:
    """A block as the placer sends it; see `loopnest_hw.leaf.layouts.placed_block`."""

    mask: tuple[int, ...]
    base: tuple[int, ...]
    place: int
    first: int
    index: int


@dataclass(frozen=True)
class Values:
    """The location of an operand's values; ``size`` is the bytes of one."""

    used: bool
    address: int
    size: int


@dataclass(frozen=True)
class AddressedLane:
    """A lane of a step; an address of None is not requested."""

    index: int
    place: int
    first: bool
    address: tuple[int | None, ...]


def address(
    blocks: Sequence[PlacedBlock],
    take: Sequence[int],
    present: Sequence[bool],
    cells: Sequence[Cell],
    values: Sequence[Values],
    *,
    one_key: bool,
) -> list[AddressedLane]:
    """Return the lanes that a step takes from its blocks, in the order of the step's lanes.

    The result's bank is the block's ``index``, in AXPY xor the lane; in DOT and SCATTER a block has
    ``one_key``.
    """
    found = []
    for block, taken in zip(blocks, take, strict=True):
        for lane in range(LANES):
            if not taken >> lane & 1:
                continue
            addresses: list[int | None] = []
            for o, (cell, operand) in enumerate(zip(cells, values, strict=True)):
                joins = cell.mode == CellMode.SCAN or cell.ones
                here = operand.used and present[o] and (not joins or block.mask[o] >> lane & 1)
                number = 0
                if cell.mode == CellMode.SCAN:
                    number = (block.mask[o] & ((1 << lane) - 1)).bit_count()
                elif cell.mode == CellMode.FOLLOW:
                    number = lane
                position = block.base[o] + number * cell.step
                at = (operand.address + operand.size * position) % ADDRESSES
                addresses.append(at if here else None)
            index = block.index if one_key else block.index ^ lane
            first = bool(block.first >> lane & 1)
            found.append(AddressedLane(index, block.place, first, tuple(addresses)))
    return found
