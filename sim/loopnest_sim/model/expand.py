"""Golden function of the expander: turns a fiber's joined blocks into tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loopnest_hw.descriptor import CellMode, ResultMode

from .join import LANES, Joined

POSITIONS = 1 << 32


@dataclass(frozen=True)
class Token:
    """An iteration of a loop; see `loopnest_hw.tokens.token`."""

    position: tuple[int, ...]
    present: tuple[bool, ...]
    fiber: int = 0
    key: int = 0
    stop: int = 0
    null: bool = False


@dataclass(frozen=True)
class Cell:
    """An operand's cell in a row."""

    mode: CellMode
    ones: bool
    step: int


@dataclass(frozen=True)
class ResultCell:
    """The result's cell in a row."""

    mode: ResultMode
    step: int


def expand(
    context: Token,
    blocks: Sequence[Joined],
    child: Sequence[int],
    cells: Sequence[Cell],
    result: ResultCell,
) -> list[Token]:
    """Return the tokens of one fiber, whose operands' first children are ``child``.

    See docs/architecture.md, "A row".
    """
    tokens = []
    for block in blocks if not context.null else ():
        for lane in range(LANES):
            if not block.lanes >> lane & 1:
                continue
            coordinate = LANES * block.coordinate + lane
            position, present = [], []
            for o, cell in enumerate(cells):
                bit = bool(block.mask[o] >> lane & 1)
                joins = cell.mode == CellMode.SCAN or cell.ones
                base, number = context.position[o], 0
                if cell.mode == CellMode.SCAN:
                    below = block.mask[o] & ((1 << lane) - 1)
                    base, number = child[o], block.rank[o] + below.bit_count()
                elif cell.mode == CellMode.FOLLOW:
                    number = coordinate
                position.append((base + number * cell.step) % POSITIONS)
                present.append(context.present[o] and (bit or not joins))
            fiber, key = context.fiber, context.key
            if result.mode == ResultMode.FIBER:
                fiber = (fiber + coordinate * result.step) % POSITIONS
            if result.mode == ResultMode.KEY:
                key = (key + coordinate * result.step) % (1 << 20)
            tokens.append(Token(tuple(position), tuple(present), fiber, key))
    if not tokens:
        tokens.append(replace(context, null=True))
    tokens[-1] = replace(tokens[-1], stop=context.stop + 1)
    return tokens
