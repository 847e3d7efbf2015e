"""The front of a row: requests each token's fibers and joins their blocks."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import ChipConfig
from ..descriptor import CellMode
from ..kernel import kernel_layout
from ..queue import Queue, SkidBuffer
from ..tokens import AHEAD, BOUND, FIBER_BLOCKS, FIBER_REQUEST, joined, token
from .fork import Fork
from .joiner import Joiner
from .ones import TURNS, Ones


class RowFront(wiring.Component):
    """Requests each token's fibers from the scanners, and joins the answers.

    ``request[o]``, ``blocks[o]``, ``ahead[o]`` and ``bound[o]`` belong to operand o's scanner.
    ``o`` has the joined blocks of every token that is neither null nor stale; ``context`` has all
    tokens, in the same order. A token whose epoch is not ``epoch`` is stale and becomes null. A
    fiber may be in the order of ``turns`` (`Ones`) if it is all ones and joined with no other.

    Up to ``fifo_depth`` fibers are requested ahead of their use.
    """

    def __init__(self, config: ChipConfig, pair: int) -> None:
        self._config = config
        self._pair = pair
        row = kernel_layout(config)["row"].shape.elem_shape
        operands = config.operands
        super().__init__(
            {
                "i": In(stream.Signature(token(config))),
                "row": In(row),
                "turns": In(TURNS),
                "epoch": In(1),
                "request": Out(stream.Signature(FIBER_REQUEST)).array(operands),
                "blocks": In(stream.Signature(FIBER_BLOCKS)).array(operands),
                "ahead": In(AHEAD).array(operands),
                "bound": Out(BOUND).array(operands),
                "o": Out(stream.Signature(joined(config, pair))),
                "context": Out(stream.Signature(token(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        operands = range(config.operands)
        scan = [self.row.cell[o].mode == CellMode.SCAN for o in operands]
        ones = [self.row.cell[o].ones for o in operands]

        m.submodules.fork = fork = Fork(token(config), config.operands + 3)
        m.submodules.ones = all_ones = Ones()
        m.submodules.joiner = joiner = Joiner(config, self._pair)
        m.submodules.present = present = Queue(config.operands, config.fifo_depth)
        m.submodules.tokens = tokens = Queue(token(config), config.fifo_depth)
        to_ones, to_present, to_tokens = (fork.o[config.operands + n] for n in range(3))

        # A token may become stale while the fork holds it, so whether it is live is decided before.
        m.submodules.settled = settled = SkidBuffer(token(config))
        stale = self.i.payload.epoch != self.epoch
        m.d.comb += [
            settled.i.valid.eq(self.i.valid),
            settled.i.payload.eq(self.i.payload),
            settled.i.payload.null.eq(self.i.payload.null | stale),
            self.i.ready.eq(settled.i.ready),
        ]
        connect(m, settled.o, fork.i)
        live = ~fork.i.payload.null
        wanted = [live & scan[o] for o in operands]
        m.d.comb += fork.wanted.eq(Cat(*wanted, live & Cat(ones).any(), live, 1))

        absent = [~to_ones.payload.present[o] & ones[o] for o in operands]
        m.d.comb += [
            all_ones.size.eq(self.row.size),
            all_ones.turns.eq(self.turns),
            all_ones.i.valid.eq(to_ones.valid),
            all_ones.i.payload.empty.eq(Cat(absent).any()),
            to_ones.ready.eq(all_ones.i.ready),
            present.i.valid.eq(to_present.valid),
            present.i.payload.eq(to_present.payload.present),
            to_present.ready.eq(present.i.ready),
        ]
        connect(m, to_tokens, tokens.i)
        connect(m, tokens.o, flipped(self.context))

        connect(m, present.o, joiner.context)
        connect(m, joiner.o, flipped(self.o))
        m.d.comb += [
            joiner.block_table.eq(self.row.block_table),
            joiner.lane_table.eq(self.row.lane_table),
        ]
        for o in operands:
            m.d.comb += [
                self.request[o].valid.eq(fork.o[o].valid),
                self.request[o].payload.position.eq(fork.o[o].payload.position[o]),
                self.request[o].payload.empty.eq(~fork.o[o].payload.present[o]),
                fork.o[o].ready.eq(self.request[o].ready),
                joiner.join[o].eq(scan[o] | ones[o]),
                self.bound[o].eq(joiner.bound[o]),
            ]
            with m.If(ones[o]):
                m.d.comb += [
                    joiner.i[o].valid.eq(all_ones.o.valid),
                    joiner.i[o].payload.eq(all_ones.o.payload),
                    all_ones.o.ready.eq(joiner.i[o].ready),
                ]
            with m.Else():
                m.d.comb += [
                    joiner.i[o].valid.eq(self.blocks[o].valid),
                    joiner.i[o].payload.eq(self.blocks[o].payload),
                    joiner.ahead[o].eq(self.ahead[o]),
                    self.blocks[o].ready.eq(joiner.i[o].ready),
                ]
        return m
