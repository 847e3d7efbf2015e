"""The leaf's lanes: multiply and add the operands' values."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arith.delay import Flow, delayed
from ..config import WIDE_BITS, ChipConfig
from ..descriptor import Op
from .lane import Lane, lane_latency


def lanes_input(config: ChipConfig, side: Any) -> data.StructLayout:
    """A step's values as they are in memory, a narrow one in the low bits.

    ``present[n][o]``: lane n has a value of operand o.
    """
    m, operands = config.multipliers, config.operands
    return data.StructLayout(
        {
            "valid": m,
            "present": data.ArrayLayout(operands, m),
            "value": data.ArrayLayout(data.ArrayLayout(WIDE_BITS, operands), m),
            "side": side,
        }
    )


def lanes_output(config: ChipConfig, side: Any) -> data.StructLayout:
    """A step's terms: wide values, 0 if the lane is not valid."""
    m = config.multipliers
    return data.StructLayout({"valid": m, "value": data.ArrayLayout(WIDE_BITS, m), "side": side})


class Lanes(wiring.Component):
    """In each valid lane ``x = op1(value[0], op2(value[1], value[2]))``.

    If one argument of an operator is absent, the result is the other; with two operands, there is
    no op2. A lane without any value is 0. `MUL` needs a narrow factor: ``value[0]`` for op1, either
    one for op2. Of a wide value in its place, only the bits of a narrow value are used. Golden
    function: `loopnest_sim.model.lanes.lanes`.

    One step per cycle; `latency` cycles without back-pressure. While an item waits at ``o``, the
    whole pipeline stalls; otherwise it advances with or without input.

    Parameters
    ----------
    config : ChipConfig
    side : ShapeLike
        Data that accompanies a step unchanged.

    Attributes
    ----------
    latency : int

    Members
    -------
    i : In(stream of `lanes_input`)
    o : Out(stream of `lanes_output`)
    op1, op2 : In(Op)
        Constant while the pipeline is not empty, like the next two.
    wide, negate : In(operands)
        Bit o: operand o's values are wide in memory; they are negated.
    overflow : Out(1)
        A negation, sum or product in a valid lane has wrapped. Stays until reset.
    """

    def __init__(self, config: ChipConfig, side: Any) -> None:
        self._config = config
        self._side = side
        self.latency = lane_latency(config)
        super().__init__(
            {
                "i": In(stream.Signature(lanes_input(config, side))),
                "o": Out(stream.Signature(lanes_output(config, side))),
                "op1": In(Op),
                "op2": In(Op),
                "wide": In(config.operands),
                "negate": In(config.operands),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        advance = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), self.i.ready.eq(advance)]

        overflows: list[Value] = []
        for n in range(config.multipliers):
            m.submodules[f"lane_{n}"] = lane = Lane(config)
            valid = self.i.valid & self.i.payload.valid[n]
            m.d.comb += [
                lane.advance.eq(advance),
                lane.op1.eq(self.op1),
                lane.op2.eq(self.op2),
                lane.wide.eq(self.wide),
                lane.negate.eq(self.negate),
                lane.present.eq(self.i.payload.present[n] & valid.replicate(config.operands)),
                self.o.payload.value[n].eq(lane.o),
            ]
            for o in range(config.operands):
                m.d.comb += lane.value[o].eq(self.i.payload.value[n][o])
            overflows.append(lane.overflow)
        with m.If(Cat(overflows).any()):
            m.d.sync += self.overflow.eq(1)

        flow = Flow(m, self.i.valid, self.latency, advance=advance)
        m.d.comb += self.o.valid.eq(flow.valid[-1])
        for name in "valid", "side":
            m.d.comb += self.o.payload[name].eq(delayed(m, self.i.payload[name], flow.load))
        return m
