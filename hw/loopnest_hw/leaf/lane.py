"""One lane of the leaf: two operators on up to three values."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arith.adder import Adder
from ..arith.delay import Flow, delayed
from ..arith.multiplier import Multiplier, multiply_latency
from ..arith.operator import OPERATOR
from ..arith.widen import Widen
from ..config import WIDE_BITS, ChipConfig
from ..descriptor import Op, Reduction


def operation_latency(config: ChipConfig) -> int:
    """Return the latency of an `Operation` in advances, the same for every op."""
    return max(config.dtype.add_latency, multiply_latency(config))


def lane_latency(config: ChipConfig) -> int:
    """Return the latency of a `Lane` in advances: one to widen, then op2 and op1."""
    return 1 + (config.operands - 1) * operation_latency(config)


class Operation(wiring.Component):
    """``o = op(a, b)``, or the argument that is present: an `OPERATOR` of one latency for all ops.

    Of adder and multiplier, the one that ``op`` does not need holds: it has no operands.

    Parameters
    ----------
    config : ChipConfig

    Attributes
    ----------
    latency : int
        Advances from ``a`` and ``b`` to ``o``.

    Members
    -------
    op : In(Op)
        Constant while the pipeline is not empty, like ``narrow_a``.
    narrow_a : In(1)
        The narrow factor of a product is ``a``; otherwise it is ``b``.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        self.latency = operation_latency(config)
        super().__init__({**OPERATOR.members, "op": In(Op), "narrow_a": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adder = adder = Adder(self._config)
        m.submodules.multiplier = multiplier = Multiplier(self._config)
        # FIRST is a sum whose second argument is absent
        hidden = (self.op == Op.FIRST) & self.a_present
        multiply = self.op == Op.MUL
        m.d.comb += [
            adder.advance.eq(self.advance),
            adder.a.eq(self.a),
            adder.b.eq(self.b),
            adder.a_present.eq(self.a_present & ~multiply),
            adder.b_present.eq(self.b_present & ~multiply & ~hidden),
            adder.reduction.eq(Reduction.SUM),
            multiplier.advance.eq(self.advance),
            multiplier.a.eq(Mux(self.narrow_a, self.b, self.a)),
            multiplier.b.eq(Mux(self.narrow_a, self.a, self.b)),
            multiplier.a_present.eq(multiply & Mux(self.narrow_a, self.b_present, self.a_present)),
            multiplier.b_present.eq(multiply & Mux(self.narrow_a, self.a_present, self.b_present)),
        ]

        for op, reduction in ((Op.MIN, Reduction.MIN), (Op.MAX, Reduction.MAX)):
            with m.If(self.op == op):
                m.d.comb += adder.reduction.eq(reduction)

        def result(unit: Adder | Multiplier) -> tuple[Value, Value]:
            """Return a result at the operation's latency, and whether there is one."""
            flow = Flow(m, unit.o_present, self.latency - unit.latency, advance=self.advance)
            return delayed(m, unit.o, flow.load), flow.valid[-1]

        product, product_present = result(multiplier)
        total, total_present = result(adder)
        m.d.comb += [
            self.o.eq(Mux(multiply, product, total)),
            self.o_present.eq(Mux(multiply, product_present, total_present)),
            # a sticky flag needs no delay
            self.overflow.eq(Mux(multiply, multiplier.overflow, adder.overflow)),
        ]
        return m


class Lane(wiring.Component):
    """``o = op1(value[0], op2(value[1], value[2]))`` of values as they are in memory.

    Parameters
    ----------
    config : ChipConfig

    Attributes
    ----------
    latency : int
        Advances from ``value`` to ``o``.

    Members
    -------
    advance : In(1)
        The pipeline advances. While it is low, all registers hold. Those of values that are not
        present always do.
    op1, op2, wide, negate
        As `lanes.Lanes`.
    present : In(operands)
        Bit o: ``value[o]`` is there.
    value : In(32), one for each operand
    o : Out(32)
        0 if no value was present.
    overflow : Out(1)
        An operation wrapped, in any stage.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        self.latency = lane_latency(config)
        super().__init__(
            {
                "advance": In(1),
                "op1": In(Op),
                "op2": In(Op),
                "wide": In(config.operands),
                "negate": In(config.operands),
                "present": In(config.operands),
                "value": In(WIDE_BITS).array(config.operands),
                "o": Out(WIDE_BITS),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        overflow = []
        value = []
        present = Signal(config.operands)
        with m.If(self.advance):
            m.d.sync += present.eq(self.present)
        for o in range(config.operands):
            m.submodules[f"widen_{o}"] = widen = Widen(config)
            m.d.comb += [
                widen.i.eq(self.value[o]),
                widen.wide.eq(self.wide[o]),
                widen.negate.eq(self.negate[o]),
            ]
            overflow.append(widen.overflow & self.present[o])
            value.append(delayed(m, widen.o, [self.advance & self.present[o]]))

        first, first_present = value[0], present[0]
        y, y_present = value[1], present[1]
        if config.operands == 3:
            m.submodules.op2 = op2 = Operation(config)
            m.d.comb += [
                op2.advance.eq(self.advance),
                op2.op.eq(self.op2),
                op2.narrow_a.eq(self.wide[2] & ~self.wide[1]),
                op2.a.eq(value[1]),
                op2.b.eq(value[2]),
                op2.a_present.eq(present[1]),
                op2.b_present.eq(present[2]),
            ]
            overflow.append(op2.overflow)
            y, y_present = op2.o, op2.o_present
            flow = Flow(m, first_present, op2.latency, advance=self.advance)
            first, first_present = delayed(m, first, flow.load), flow.valid[-1]
        m.submodules.op1 = op1 = Operation(config)
        m.d.comb += [
            op1.advance.eq(self.advance),
            op1.op.eq(self.op1),
            op1.narrow_a.eq(1),
            op1.a.eq(first),
            op1.b.eq(y),
            op1.a_present.eq(first_present),
            op1.b_present.eq(y_present),
            self.o.eq(Mux(op1.o_present, op1.o, 0)),
            self.overflow.eq(Cat(overflow, op1.overflow).any()),
        ]
        return m
