"""The leaf: joined blocks in, terms of the result out."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import LANES, ChipConfig
from ..descriptor import LeafMode
from ..kernel import kernel_layout
from ..queue import Queue, SkidBuffer
from ..row.fork import Fork
from ..tokens import (
    PAIR,
    StageState,
    found,
    gather_reply,
    gather_request,
    joined,
    lookup,
    terms,
    token,
)
from .addresser import Addresser, addressed
from .dot import Dot
from .former import Former
from .lanes import Lanes
from .layouts import step, sum_place
from .placer import Placer
from .scatter import Scatter


class Leaf(wiring.Component):
    """Runs the innermost loop: places, steps, values, operators, sums.

    ``request[o]`` and ``reply[o]`` belong to operand o's value stream, which is read up to
    ``stream_depth`` steps ahead. One step per cycle. See docs/architecture.md, "The leaf".

    ``multiplies`` and ``leaf_step`` count what enters the lanes in this cycle; ``state`` is the
    stage's.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        operands, lanes = config.operands, config.multipliers
        super().__init__(
            {
                "i": In(stream.Signature(joined(config, PAIR))),
                "context": In(stream.Signature(token(config))),
                "kernel": In(kernel_layout(config)),
                "epoch": In(1),
                "lookup": Out(stream.Signature(lookup(config))),
                "found": In(stream.Signature(found(config))),
                "retired": Out(stream.Signature(1)),
                "request": Out(stream.Signature(gather_request(lanes))).array(operands),
                "reply": In(stream.Signature(gather_reply(lanes))).array(operands),
                "o": Out(stream.Signature(terms(config))),
                "overflow": Out(1),
                "multiplies": Out(range(LANES + 1)),
                "leaf_step": Out(1),
                "state": Out(StageState),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.scatter = scatter = Scatter(config)
        m.submodules.placer = placer = Placer(config)
        m.submodules.former = former = Former(config)
        m.submodules.addresser = addresser = Addresser(config)
        connect(m, flipped(self.i), scatter.i)
        connect(m, scatter.o, placer.i)
        connect(m, flipped(self.context), placer.context)
        connect(m, placer.lookup, flipped(self.lookup))
        connect(m, flipped(self.found), placer.found)
        connect(m, placer.retired, flipped(self.retired))
        connect(m, placer.o, former.i)
        connect(m, former.o, addresser.i)
        m.d.comb += [
            scatter.enable.eq(self.kernel.leaf_mode == LeafMode.SCATTER),
            placer.kernel.eq(self.kernel),
            placer.epoch.eq(self.epoch),
            former.exclusive.eq(self.kernel.leaf_mode == LeafMode.AXPY),
            former.single.eq(self.kernel.leaf_mode == LeafMode.SCATTER),
            addresser.kernel.eq(self.kernel),
        ]
        waiting = self._ask(m, addresser)
        lanes = self._feed(m, waiting)
        self._sum(m, lanes)
        return m

    def _ask(self, m: Module, addresser: Addresser) -> Queue:
        """Request the step's values, and queue the rest of the step until they arrive."""
        config = self._config
        m.submodules.fork = fork = Fork(addressed(config), config.operands + 1)
        m.submodules.waiting = waiting = Queue(step(config), config.stream_depth)
        connect(m, addresser.o, fork.i)
        m.d.comb += fork.wanted.eq(
            Cat(*(self.kernel.operand[o].used for o in range(config.operands)), 1)
        )
        for o in range(config.operands):
            m.d.comb += [
                self.request[o].valid.eq(fork.o[o].valid),
                self.request[o].payload.eq(fork.o[o].payload.gather[o]),
                fork.o[o].ready.eq(self.request[o].ready),
            ]
        m.d.comb += [
            waiting.i.valid.eq(fork.o[config.operands].valid),
            waiting.i.payload.eq(fork.o[config.operands].payload.step),
            fork.o[config.operands].ready.eq(waiting.i.ready),
        ]
        return waiting

    def _feed(self, m: Module, waiting: Queue) -> Lanes:
        """Feed the lanes with steps and their values."""
        config = self._config
        m.submodules.lanes = lanes = Lanes(config, step(config))
        m.d.comb += [lanes.op1.eq(self.kernel.op1), lanes.op2.eq(self.kernel.op2)]
        arrived = []
        for o in range(config.operands):
            operand = self.kernel.operand[o]
            m.submodules[f"values_{o}"] = values = SkidBuffer(gather_reply(config.multipliers))
            connect(m, flipped(self.reply[o]), values.i)
            arrived.append(~operand.used | values.o.valid)
            m.d.comb += [
                values.o.ready.eq(lanes.i.valid & lanes.i.ready & operand.used),
                lanes.wide[o].eq(operand.wide),
                lanes.negate[o].eq(operand.negate),
            ]
            for n in range(config.multipliers):
                m.d.comb += lanes.i.payload.value[n][o].eq(values.o.payload[n])
        m.d.comb += [
            lanes.i.valid.eq(waiting.o.valid & Cat(arrived).all()),
            waiting.o.ready.eq(lanes.i.ready & Cat(arrived).all()),
            lanes.i.payload.valid.eq(waiting.o.payload.valid),
            lanes.i.payload.present.eq(waiting.o.payload.present),
            lanes.i.payload.side.eq(waiting.o.payload),
        ]
        fed = lanes.i.valid & lanes.i.ready
        with m.If(fed):
            m.d.comb += [
                self.multiplies.eq(sum(waiting.o.payload.valid)),
                self.leaf_step.eq(waiting.o.payload.valid.any()),
            ]
        with m.If(lanes.i.valid):
            m.d.comb += self.state.eq(StageState.STALLED)
            with m.If(lanes.i.ready):
                m.d.comb += self.state.eq(StageState.BUSY)
        with m.Elif(waiting.o.valid):
            m.d.comb += self.state.eq(StageState.STARVED)
        return lanes

    def _sum(self, m: Module, lanes: Lanes) -> None:
        """Turn lanes into terms, through the dot tree if the leaf index is summed over."""
        config = self._config
        m.submodules.dot = dot = Dot(config, sum_place(config))
        out = self.o.payload
        lane = lanes.o.payload.side
        is_dot = self.kernel.leaf_mode == LeafMode.DOT
        m.d.comb += [
            dot.reduction.eq(self.kernel.reduction),
            dot.i.payload.valid.eq(lanes.o.payload.valid),
            dot.i.payload.value.eq(lanes.o.payload.value),
            dot.i.payload.last.eq(lanes.o.payload.side.last),
            dot.i.payload.side.index.eq(lane.index[0]),
            dot.i.payload.side.place.eq(lane.place[0]),
            dot.i.payload.side.first.eq(lane.first[0]),
            dot.i.payload.side.fiber.eq(lane.fiber),
            dot.i.payload.side.end.eq(lane.end),
            dot.i.payload.side.final.eq(lane.final),
            self.overflow.eq(lanes.overflow | dot.overflow),
        ]
        with m.If(is_dot):
            sum_ = dot.o.payload
            # A fiber without lanes gives no term, unless a result fiber ends with it.
            matters = Signal()
            m.d.comb += [
                matters.eq(sum_.any | sum_.side.end | sum_.side.final),
                dot.i.valid.eq(lanes.o.valid),
                lanes.o.ready.eq(dot.i.ready),
                out.index[0].eq(sum_.side.index),
                out.place[0].eq(sum_.side.place),
                out.first[0].eq(sum_.side.first),
                out.fiber.eq(sum_.side.fiber),
                out.end.eq(sum_.side.end),
                out.final.eq(sum_.side.final),
                self.o.valid.eq(dot.o.valid & matters),
                dot.o.ready.eq(self.o.ready | ~matters),
                out.valid.eq(sum_.any),
                out.value[0].eq(sum_.value),
            ]
        with m.Else():
            m.d.comb += [
                out.index.eq(lane.index),
                out.place.eq(lane.place),
                out.first.eq(lane.first),
                out.fiber.eq(lane.fiber),
                out.end.eq(lane.end),
                out.final.eq(lane.final),
                self.o.valid.eq(lanes.o.valid),
                lanes.o.ready.eq(self.o.ready),
                out.valid.eq(lanes.o.payload.valid),
                out.value.eq(lanes.o.payload.value),
            ]
