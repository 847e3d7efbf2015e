"""Golden functions of the weigher: what row 0's coordinates weigh, and the chunks they make."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loopnest_hw.config import ADDRESS_BITS, LANES, LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import CellMode, ResultMode
from loopnest_hw.format import OPEN_STRIDE, PACKED_STRIDE, WORD_BYTES

from .expand import Cell, ResultCell, Token, expand
from .join import Joined

MAX_PART_WEIGHT = (1 << 15) - 1
MAX_WEIGHT = (1 << 16) - 1
PARTS = 2
"""Parts that are added to a chunk in a step."""


Place = tuple[int, int]
"""Byte addresses of a first block word and of an end."""


@dataclass(frozen=True)
class Weighed:
    """The level whose fibers are weighed: its operand, position table and words per entry, and
    whether row 0's coordinates have their fibers one behind the other.
    """

    operand: int
    table: int
    stride: int
    contiguous: bool


def weighed_level(config: ChipConfig, descriptor: Mapping[str, int]) -> Weighed | None:
    """Return the level that the first loop below row 0 scans at a position given by row 0, or None.

    Parameters
    ----------
    config : ChipConfig
        The chip.
    descriptor : Mapping[str, int]
        The kernel, as `descriptor.unpack` returns it.
    """
    loops = [r for r in range(1, config.rows) if not descriptor[f"row.{r}.bypass"]]
    if not loops or not descriptor["share.rows"]:
        return None
    for o in range(config.operands):
        top, cell = f"row.0.cell.{o}", f"row.{loops[0]}.cell.{o}"
        placed = descriptor[f"{top}.mode"] in (CellMode.SCAN, CellMode.FOLLOW)
        if (
            placed
            and descriptor[f"{top}.step"] == 1
            and descriptor[f"{cell}.mode"] == CellMode.SCAN
        ):
            if not descriptor[f"operand.{o}.used"]:
                return None
            scanner = f"scanner.{descriptor[f'{cell}.scanner']}"
            stride = OPEN_STRIDE if descriptor[f"{scanner}.open"] else PACKED_STRIDE
            follows = descriptor[f"{top}.mode"] == CellMode.FOLLOW
            contiguous = follows and stride == PACKED_STRIDE
            return Weighed(o, descriptor[f"{scanner}.table"], stride, contiguous)
    return None


def entries(
    config: ChipConfig,
    descriptor: Mapping[str, int],
    block: Joined,
    child: Sequence[int],
) -> dict[int, Place | None]:
    """Return the byte addresses of the first block word and the end of each lane's fiber.

    None: there is no fiber to weigh. ``child`` are the first children of row 0's fibers. The tokens
    are those that `expand` gives to the next row, so that nothing is read which its scanner does
    not read.
    """
    level = weighed_level(config, descriptor)
    lanes = [lane for lane in range(LANES) if block.lanes >> lane & 1]
    if level is None:
        return dict.fromkeys(lanes)
    operands = range(config.operands)
    cells = [
        Cell(
            CellMode(descriptor[f"row.0.cell.{o}.mode"]),
            bool(descriptor[f"row.0.cell.{o}.ones"]),
            descriptor[f"row.0.cell.{o}.step"],
        )
        for o in operands
    ]
    start = Token(
        tuple(descriptor[f"operand.{o}.start"] for o in operands),
        tuple(bool(descriptor[f"operand.{o}.used"]) for o in operands),
    )
    tokens = expand(start, [block], child, cells, ResultCell(ResultMode.HOLD, 0))
    table = level.table - level.table % LINE_BYTES
    found: dict[int, Place | None] = {}
    for lane, token in zip(lanes, tokens, strict=True):
        at = table + WORD_BYTES * level.stride * token.position[level.operand]
        first, end = (address % (1 << ADDRESS_BITS) for address in (at, at + 2 * WORD_BYTES))
        found[lane] = (first, end) if token.present[level.operand] else None
    return found


def part_weight(first: int, end: int) -> int:
    """Return the weight of a part whose fibers' block words are these."""
    return min(max(1, end - first), MAX_PART_WEIGHT)


def steps(
    config: ChipConfig, descriptor: Mapping[str, int], block: Joined, child: Sequence[int]
) -> Iterator[tuple[list[int], list[Place | None]]]:
    """Yield the steps in which a block's lanes are taken: their lanes, and for each part the byte
    addresses of its first block word and of its end, as for `entries`.
    """
    level = weighed_level(config, descriptor)
    places = entries(config, descriptor, block, child)
    wide = level is not None and level.contiguous and descriptor["share.wide"]
    alone = descriptor["share.quantum"] <= 1
    width = 2 if wide and not alone else 1
    length = 1 if alone else PARTS * width
    lanes = sorted(places)
    for n in range(0, len(lanes), length):
        step = lanes[n : n + length]
        parts: list[Place | None] = []
        for k in range(0, len(step), width):
            place, between = places[step[k]], step[k : k + width][-1] - step[k]
            if place is not None:
                end = place[1] + WORD_BYTES * PACKED_STRIDE * between
                place = place[0], end % (1 << ADDRESS_BITS)
            parts.append(place)
        yield step, parts


def chunks(weighed: Sequence[tuple[Sequence[int], int]], quantum: int) -> Iterator[tuple[int, int]]:
    """Yield a block's chunks, their lanes as a mask and their weight.

    ``weighed`` are its steps, each one's lanes and weight.
    """
    mask = total = 0
    for n, (lanes, weight) in enumerate(weighed):
        mask |= sum(1 << lane for lane in lanes)
        total += weight
        if total >= quantum or n == len(weighed) - 1:
            yield mask, min(total, MAX_WEIGHT)
            mask = total = 0
