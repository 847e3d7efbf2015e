"""A row's settings, its fibers, and scanners that serve them, for the benches of the rows."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from loopnest_hw.config import LANES, make_config
from loopnest_hw.descriptor import CellMode, ResultMode
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.tokens import FIBER_BLOCKS, FIBER_REQUEST
from loopnest_sim.model.expand import Cell, ResultCell, Token
from loopnest_sim.model.join import Joined, Word, join
from tb.row.test_joiner import random_fiber, table
from tb.streams import Sink, Source

CONFIG = make_config("tiny", fifo_depth=4)
OPERANDS = range(CONFIG.operands)
ROW = kernel_layout(CONFIG)["row"].shape.elem_shape
FIBERS = 30
"""Fibers of each operand."""


@dataclass(frozen=True)
class Level:
    """A row's settings, and the fibers of its operands by position."""

    cells: tuple[Cell, ...]
    result: ResultCell
    table: int
    size: int
    fibers: tuple[tuple[tuple[Word, ...], ...], ...]

    @property
    def joins(self) -> list[bool]:
        """The operands with a join input."""
        return [c.mode == CellMode.SCAN or c.ones for c in self.cells]

    def row(self) -> dict[str, Any]:
        """Return the row's settings as descriptor fields."""
        return {
            "cell": [{"mode": c.mode.value, "ones": c.ones, "step": c.step} for c in self.cells],
            "block_table": self.table,
            "lane_table": self.table,
            "size": self.size,
            "result_mode": self.result.mode.value,
            "result_step": self.result.step,
        }

    def joined(self, context: Token) -> list[Joined]:
        """Return the joined blocks of a token's fibers."""
        every = (1 << LANES) - 1
        sizes = [min(LANES, self.size - at) for at in range(0, self.size, LANES)]
        ones = [Word(n, every >> LANES - lanes, 0) for n, lanes in enumerate(sizes)]
        fibers = [
            []
            if not context.present[o]
            else ones
            if self.cells[o].ones
            else self.fibers[o][context.position[o] % FIBERS]
            for o in OPERANDS
        ]
        return join(fibers, context.present, self.joins, self.table, self.table)

    def child(self, o: int, position: int) -> int:
        """Return the first child of a fiber of operand o."""
        return 1000 * position + o


def random_level(rng: random.Random, ones: int | None = None) -> Level:
    """Return a level with at least one scanning cell, and possibly an all-ones cell: that of the
    operand ``ones``, or else any or none.
    """
    modes = [rng.choice(list(CellMode)) for _ in OPERANDS]
    modes[rng.choice([o for o in OPERANDS if o != ones])] = CellMode.SCAN
    if ones is not None:
        modes[ones] = rng.choice([mode for mode in CellMode if mode != CellMode.SCAN])
    steps = [1, 1, 7, rng.getrandbits(32)]
    cells = [Cell(mode, False, rng.choice(steps)) for mode in modes]
    others = [o for o in OPERANDS if modes[o] != CellMode.SCAN]
    if ones is not None or (others and rng.random() < 0.5):
        o = rng.choice(others) if ones is None else ones
        cells[o] = Cell(modes[o], True, cells[o].step)
    joins = sum((c.mode == CellMode.SCAN or c.ones) << o for o, c in enumerate(cells))
    return Level(
        cells=tuple(cells),
        result=ResultCell(rng.choice(list(ResultMode)), rng.choice([1, 16, 250])),
        table=table(rng, joins),
        size=rng.choice([0, 1, 16, 40, 100]),
        fibers=tuple(
            tuple(tuple(random_fiber(rng, rng.choice([2, 4, 8]), 6)) for _ in range(FIBERS))
            for _ in OPERANDS
        ),
    )


def random_token(rng: random.Random) -> Token:
    """Return a token whose fibers exist; one in six is null."""
    return Token(
        tuple(rng.randrange(FIBERS) for _ in OPERANDS),
        tuple(rng.random() < 0.8 for _ in OPERANDS),
        rng.getrandbits(32),
        rng.getrandbits(20),
        rng.choice([0, 0, 1, 2]),
        rng.random() < 0.16,
    )


def items(words: list[Word], child: int) -> list[dict[str, Any]]:
    """Return a fiber as items of the scanner."""
    sent = []
    for at in range(0, max(len(words), 1), 2):
        pair = words[at : at + 2]
        padded = pair + [Word(0, 0, 0)] * (2 - len(pair))
        sent.append(
            {
                "word": [{"coordinate": w.coordinate, "mask": w.mask} for w in padded],
                "rank": [w.rank for w in padded],
                "count": len(pair),
                "child": child,
                "last": at + 2 >= len(words),
            }
        )
    return sent


class Scanners:
    """Answers the requests to each operand's scanner, in order; ``asked`` keeps the requests."""

    def __init__(self, dut: Any, level: Level, rng: random.Random, stall: float) -> None:
        self._clock = dut.clk
        self._level = level
        self.asked: list[list[dict[str, int]]] = []
        for o in OPERANDS:
            sink = Sink(dut, f"request__{o}", FIBER_REQUEST, rng, stall)
            source = Source(dut, f"blocks__{o}", FIBER_BLOCKS, rng, stall)
            self.asked.append(sink.received)
            cocotb.start_soon(self._answer(o, sink, source))

    async def _answer(self, o: int, sink: Sink, source: Source) -> None:
        answers: deque[dict[str, Any]] = deque()
        seen = 0
        while True:
            for request in sink.received[seen:]:
                position = request["position"]
                words = [] if request["empty"] else list(self._level.fibers[o][position])
                child = 0 if request["empty"] else self._level.child(o, position)
                answers += items(words, child)
            seen = len(sink.received)
            if answers:
                await source.send(answers.popleft())
            else:
                await RisingEdge(self._clock)
