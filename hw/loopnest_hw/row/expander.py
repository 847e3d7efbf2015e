"""The expander: turns joined blocks into tokens, one coordinate per cycle."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arith.delay import Flow, delayed
from ..config import COORDINATE_BITS, LANES, ChipConfig
from ..descriptor import CellMode, ResultMode
from ..kernel import kernel_layout
from ..tokens import joined, token
from ..unary import below, lowest
from .scale import ScaledSum


class Expander(wiring.Component):
    """Turns the joined blocks of each context token into tokens for the next row.

    One token per cycle; a block takes as many cycles as it has lanes, an empty fiber one. The
    latency is four cycles. The blocks of a stale context (its epoch is not ``epoch``) are dropped,
    one per cycle, and give one null token. See docs/architecture.md, "A row". Golden function:
    `loopnest_sim.model.expand.expand`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(joined(config, 1))),
                "context": In(stream.Signature(token(config))),
                "row": In(kernel_layout(config)["row"].shape.elem_shape),
                "epoch": In(1),
                "o": Out(stream.Signature(token(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        operands = range(config.operands)
        advance = Signal()
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)
        context = self.context.payload
        item = self.i.payload
        block = item.block[0]

        # Pick: the lowest remaining lane of the current block. The lane is found one cycle ahead,
        # so that the block's end is known early.
        picked = data.StructLayout(
            {
                "token": token(config),
                "child": item.child.shape(),
                "block": block.shape(),
                "lane": LANES,
            }
        )
        pick_valid = Signal()
        pick = Signal(picked, reset_less=True)
        rest = Signal(LANES, reset_less=True)
        more = Signal()  # the current block: `rest` is not 0
        # The stop of the block's last token.
        stop = Signal(config.stop_bits, reset_less=True)
        skip = Signal()
        ends = Signal()
        here = Signal()
        take = Signal()
        block_lane = Signal(LANES)
        block_rest = Signal(LANES)
        rest_lane = Signal(LANES)
        rest_rest = Signal(LANES)
        m.d.comb += [
            skip.eq(context.epoch != self.epoch),
            ends.eq(context.null | item.last),
            here.eq(self.context.valid & (context.null | self.i.valid)),
            take.eq(~pick_valid | advance & ~more),
            self.i.ready.eq(take & here & ~context.null),
            self.context.ready.eq(take & here & ends),
            block_lane.eq(lowest(block.lanes)),
            block_rest.eq(block.lanes & ~block_lane),
            rest_lane.eq(lowest(rest)),
            rest_rest.eq(rest & ~rest_lane),
        ]
        empty = context.null | skip | (item.count == 0)
        with m.If(take):
            # Of skipped blocks, only the last one gives a token.
            m.d.sync += pick_valid.eq(here & (context.null | ~skip | item.last))
            with m.If(here):
                m.d.sync += [
                    pick.token.eq(context),
                    pick.token.null.eq(empty),
                    pick.child.eq(item.child),
                    pick.block.eq(block),
                    pick.lane.eq(block_lane),
                    rest.eq(block_rest),
                    more.eq(~empty & block_rest.any()),
                    stop.eq(Mux(ends, context.stop + 1, 0)),
                ]
        with m.Elif(advance):
            m.d.sync += [pick.lane.eq(rest_lane), rest.eq(rest_rest), more.eq(rest_rest.any())]

        # Number: each cell's coordinate or rank, and which operands are present.
        flow = Flow(m, pick_valid, 1 + ScaledSum.latency, advance=advance)
        number_token = Signal(token(config), reset_less=True)
        coordinate = Signal(COORDINATE_BITS, reset_less=True)
        lane_index = Signal(range(LANES))
        for lane in range(LANES):
            with m.If(pick.lane[lane]):
                m.d.comb += lane_index.eq(lane)
        with m.If(flow.load[0]):
            m.d.sync += [
                number_token.eq(pick.token),
                number_token.stop.eq(Mux(more, 0, stop)),
                # A null token's block is undefined: it keeps its parent's result fiber and key.
                coordinate.eq(Mux(pick.token.null, 0, Cat(lane_index, pick.block.coordinate))),
            ]
        lower = Signal(LANES)
        m.d.comb += lower.eq(below(pick.lane))
        sums = []
        for o in operands:
            cell = self.row.cell[o]
            mask = pick.block.mask[o]
            number = Signal(COORDINATE_BITS, name=f"number_{o}", reset_less=True)
            base = Signal(32, name=f"base_{o}", reset_less=True)
            joins = (cell.mode == CellMode.SCAN) | cell.ones
            with m.If(flow.load[0]):
                m.d.sync += base.eq(pick.token.position[o])
                with m.Switch(cell.mode):
                    with m.Case(CellMode.SCAN):
                        ranked = pick.block.rank[o] + sum(mask[n] & lower[n] for n in range(LANES))
                        m.d.sync += [number.eq(ranked), base.eq(pick.child[o])]
                    with m.Case(CellMode.FOLLOW):
                        m.d.sync += number.eq(Cat(lane_index, pick.block.coordinate))
                    with m.Default():
                        m.d.sync += number.eq(0)
                m.d.sync += number_token.present[o].eq(
                    pick.token.present[o] & (~joins | (mask & pick.lane).any())
                )
            m.submodules[f"position_{o}"] = position = ScaledSum()
            m.d.comb += [
                position.base.eq(base),
                position.number.eq(number),
                position.step.eq(cell.step),
                position.load.eq(flow.load[1:]),
            ]
            sums.append(position.o)

        m.submodules.result = result = ScaledSum()
        is_key = self.row.result_mode == ResultMode.KEY
        m.d.comb += [
            result.base.eq(Mux(is_key, number_token.key, number_token.fiber)),
            result.number.eq(Mux(self.row.result_mode == ResultMode.HOLD, 0, coordinate)),
            result.step.eq(self.row.result_step),
            result.load.eq(flow.load[1:]),
        ]

        # Scale: the pipeline of the sums, with the rest of the token delayed alongside.
        rest_of_token = delayed(m, number_token.as_value(), flow.load[1:])
        m.d.comb += [self.o.valid.eq(flow.valid[-1]), self.o.payload.eq(rest_of_token)]
        for o in operands:
            m.d.comb += self.o.payload.position[o].eq(sums[o])
        with m.If(is_key):
            m.d.comb += self.o.payload.key.eq(result.o)
        with m.Else():
            m.d.comb += self.o.payload.fiber.eq(result.o)
        return m
