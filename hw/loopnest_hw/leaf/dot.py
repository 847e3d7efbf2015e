"""The dot tree: the sum of each fiber's lanes."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arith.adder import Adder
from ..arith.delay import Flow, delayed
from ..config import DOT_RING, WIDE_BITS, ChipConfig
from ..descriptor import Reduction

TERM = data.StructLayout({"value": WIDE_BITS, "present": 1})
"""A summand that may be absent."""


def dot_input(config: ChipConfig, side: Any) -> data.StructLayout:
    """A step's wide values; ``last`` ends the fiber."""
    m = config.multipliers
    return data.StructLayout(
        {"valid": m, "value": data.ArrayLayout(WIDE_BITS, m), "last": 1, "side": side}
    )


def dot_output(side: Any) -> data.StructLayout:
    """A fiber's sum, 0 unless it had ``any`` valid lane, and its last step's ``side``."""
    return data.StructLayout({"any": 1, "value": WIDE_BITS, "side": side})


class Dot(wiring.Component):
    """Sums fibers: steps in, one item per fiber out.

    Within a step the lanes are added by a tree, ``((0+1)+(2+3))+...``. The fiber's step s, with
    lanes or without, is added to partial sum ``s mod 4``; the partial sums are added as
    ``(0+1)+(2+3)``. If one summand is absent, the other passes unchanged. Golden function:
    `loopnest_sim.model.dot.dot`.

    Always one step per cycle, even if every step is a fiber of its own. An item leaves `latency`
    cycles after its fiber's last step. While an item waits at ``o``, the whole pipeline stalls;
    otherwise it advances with or without input.

    Parameters
    ----------
    config : ChipConfig
    side : ShapeLike
        Data that accompanies a fiber's last step unchanged. It passes through `latency` registers,
        so keep it narrow.

    Attributes
    ----------
    latency : int

    Members
    -------
    i : In(stream of `dot_input`)
    o : Out(stream of `dot_output`)
    reduction : In(Reduction)
        Replaces the sum; constant while the pipeline is not empty.
    overflow : Out(1)
        A sum has wrapped. Stays until reset.
    """

    def __init__(self, config: ChipConfig, side: Any) -> None:
        self._config = config
        self._side = side
        self._step_latency = (config.multipliers.bit_length() - 1) * config.dtype.add_latency
        self._tail_latency = (DOT_RING.bit_length() - 1) * config.dtype.add_latency
        self.latency = self._step_latency + config.dtype.add_latency + self._tail_latency
        super().__init__(
            {
                "i": In(stream.Signature(dot_input(config, side))),
                "o": Out(stream.Signature(dot_output(side))),
                "reduction": In(Reduction),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        advance = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), self.i.ready.eq(advance)]
        overflows: list[Value] = []

        def add(name: str, a: data.View, b: data.View) -> data.View:
            """Return the sum of two terms, a latency later."""
            m.submodules[name] = adder = Adder(config)
            total = Signal(TERM, name=name)
            m.d.comb += [
                adder.advance.eq(advance),
                adder.reduction.eq(self.reduction),
                adder.a.eq(a.value),
                adder.b.eq(b.value),
                adder.a_present.eq(a.present),
                adder.b_present.eq(b.present),
                total.value.eq(adder.o),
                total.present.eq(adder.o_present),
            ]
            overflows.append(adder.overflow)
            return total

        def tree(name: str, terms: list[data.View]) -> data.View:
            while len(terms) > 1:
                pairs = zip(terms[0::2], terms[1::2], strict=True)
                terms = [
                    add(f"{name}_{len(terms) // 2}_{n}", a, b) for n, (a, b) in enumerate(pairs)
                ]
            return terms[0]

        # the step's sum
        lanes = []
        for n in range(config.multipliers):
            lane = Signal(TERM, name=f"lane_{n}")
            m.d.comb += [
                lane.value.eq(self.i.payload.value[n]),
                lane.present.eq(self.i.valid & self.i.payload.valid[n]),
            ]
            lanes.append(lane)
        step = tree("step", lanes)
        ring_latency = config.dtype.add_latency
        steps = Flow(m, self.i.valid, self._step_latency + ring_latency, advance=advance)
        lasts = Flow(m, self.i.valid & self.i.payload.last, self.latency, advance=advance)
        step_valid, done_valid = steps.valid[self._step_latency], steps.valid[-1]
        step_last = lasts.valid[self._step_latency]
        done_last = lasts.valid[self._step_latency + ring_latency]

        # the ring of partial sums: a step enters the adder with the partial sum of four steps ago
        ring = [Signal(WIDE_BITS, name=f"ring_{n}", reset_less=True) for n in range(DOT_RING)]
        filled = Signal(DOT_RING)
        entry = Signal(range(DOT_RING))
        # the partial sum belongs to this fiber
        again = Signal()
        with m.If(advance & step_valid):
            m.d.sync += entry.eq(entry + 1)
            with m.If(entry == DOT_RING - 1):
                m.d.sync += again.eq(1)
            with m.If(step_last):
                m.d.sync += [entry.eq(0), again.eq(0)]
        done_entry = delayed(m, entry, steps.load[self._step_latency :])
        before = Signal(TERM)
        total = add("ring_sum", step, before)
        # the ring with the sum that leaves the adder
        now = [Signal(TERM, name=f"now_{n}") for n in range(DOT_RING)]
        for n in range(DOT_RING):
            done = done_valid & (done_entry == n)
            m.d.comb += [
                now[n].value.eq(Mux(done, total.value, ring[n])),
                now[n].present.eq(Mux(done, total.present, filled[n])),
            ]
            with m.If(advance & done):
                m.d.sync += ring[n].eq(total.value)
            # a fiber's last step leaves an empty ring behind
            with m.If(advance):
                m.d.sync += filled[n].eq(now[n].present & ~done_last)
        chosen = Signal(TERM)
        m.d.comb += [
            chosen.eq(Array(now)[entry]),
            before.value.eq(chosen.value),
            before.present.eq(chosen.present & again),
        ]

        # the fiber's sum
        final = []
        for n in range(DOT_RING):
            term = Signal(TERM, name=f"final_{n}")
            m.d.comb += [
                term.value.eq(now[n].value),
                term.present.eq(now[n].present & done_last),
            ]
            final.append(term)
        fiber = tree("fiber", final)
        m.d.comb += [
            self.o.valid.eq(lasts.valid[-1]),
            self.o.payload.any.eq(fiber.present),
            self.o.payload.value.eq(Mux(fiber.present, fiber.value, 0)),
            self.o.payload.side.eq(delayed(m, self.i.payload.side, lasts.load)),
        ]
        with m.If(Cat(overflows).any()):
            m.d.sync += self.overflow.eq(1)
        return m
