"""The fill: adds terms to the accumulator's banks."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arith.adder import Adder
from ..arith.delay import Flow, delayed
from ..config import LANES, POSITION_BITS, WIDE_BITS, ChipConfig
from ..descriptor import Reduction
from ..tokens import StageState, terms

BEFORE = 2
"""Cycles from a step's reads to its additions."""


class Fill(wiring.Component):
    """Stores first terms and adds the others to their bank of their slot; one step per cycle.

    Terms of a step are in different banks. If the sum that a term adds to is still in the adder,
    its step waits for the cycle in which that sum leaves: L cycles after the step that it depends
    on. So terms with the same destination are added in the order of their steps.

    Members
    -------
    terms : In(stream)
    reduction : In(Reduction)
        Taken for the sum; constant while anything is inside.
    expecting : In(1)
        There are lookups whose fiber has not ended here (only for ``state``).
    read : Out, value : In, write : Out
        `LaneBanks`.
    reserved : In(16)
        Banks that the drain reads in this cycle; a step that needs one of them waits.
    fiber, ends_nest, ended : Out
        A fiber's last step enters; ``filled`` : Out(1) when all terms of a fiber are in the banks.
    overflow : Out(1)
        An addition wrapped.
    state : Out(StageState)
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        slot = config.slot_bits
        read = data.StructLayout({"enable": 1, "slot": slot})
        write = data.StructLayout({"enable": 1, "slot": slot, "value": WIDE_BITS})
        super().__init__(
            {
                "terms": In(stream.Signature(terms(config))),
                "reduction": In(Reduction),
                "expecting": In(1),
                "read": Out(data.ArrayLayout(read, LANES)),
                "value": In(data.ArrayLayout(WIDE_BITS, LANES)),
                "write": Out(data.ArrayLayout(write, LANES)),
                "reserved": In(LANES),
                "fiber": Out(POSITION_BITS),
                "ends_nest": Out(1),
                "ended": Out(1),
                "filled": Out(1),
                "overflow": Out(1),
                "state": Out(StageState),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        lanes = range(config.multipliers)
        adders = []
        for n in lanes:
            m.submodules[f"adder_{n}"] = adder = Adder(config)
            adders.append(adder)
        latency = adders[0].latency
        sums = [adder.o for adder in adders]

        step = Signal(terms(config), reset_less=True)
        step_valid = Signal()
        go = Signal()
        m.d.comb += self.terms.ready.eq(~step_valid | go)
        with m.If(self.terms.ready):
            m.d.sync += step_valid.eq(self.terms.valid)
        with m.If(self.terms.ready & self.terms.valid):
            m.d.sync += step.eq(self.terms.payload)

        # there[d][n]: the step of d cycles ago has a term n; where[d][n] is its destination;
        # where[0] is the current step's
        where_layout = data.StructLayout({"slot": config.slot_bits, "index": range(LANES)})
        depth = BEFORE + latency
        flows = [Flow(m, step.valid[n] & go, depth, advance=Const(1, 1)) for n in lanes]
        there = [[flow.valid[d] for flow in flows] for d in range(depth + 1)]
        where: list[list[Any]] = [[Signal(where_layout, name=f"where_{n}") for n in lanes]]
        # `go` arrives late, and what is loaded in vain does not matter
        waits = [step_valid & step.valid[n] for n in lanes]
        for n in lanes:
            m.d.comb += [where[0][n].slot.eq(step.place[n]), where[0][n].index.eq(step.index[n])]
        for d in range(depth):
            loads = waits if d == 0 else there[d]
            where.append([delayed(m, where[d][n], [loads[n]]) for n in lanes])

        # meets[n][d]: the terms of the step d cycles ago that have the same destination as term n
        adds = [step.valid[n] & ~step.first[n] for n in lanes]
        meets = [
            [
                Cat(
                    adds[n] & some & (where[0][n].as_value() == other.as_value())
                    for some, other in zip(there[d], where[d], strict=True)
                )
                for d in range(1, depth + 1)
            ]
            for n in lanes
        ]
        for n in lanes:
            meets[n] = [_named(m, f"meets_{n}_{d + 1}", v) for d, v in enumerate(meets[n])]
        too_soon = Signal()
        fetched = Signal(LANES)
        m.d.comb += [
            too_soon.eq(Cat(meets[n][d - 1] for n in lanes for d in range(1, latency)).any()),
            go.eq(step_valid & ~too_soon & ~(fetched & self.reserved).any()),
        ]

        # reads
        for bank in range(LANES):
            read = self.read[bank]
            for n in lanes:
                with m.If(adds[n] & (step.index[n] == bank)):
                    m.d.comb += [
                        fetched[bank].eq(step_valid),
                        read.enable.eq(go),
                        read.slot.eq(step.place[n]),
                    ]

        for n in lanes:
            self._add(m, n, adders[n], sums, step, meets[n][latency - 1 :], waits[n], go)

        # writes
        for bank in range(LANES):
            write = self.write[bank]
            for n, last in enumerate(where[depth]):
                with m.If(there[depth][n] & (last.index == bank)):
                    m.d.comb += [
                        write.enable.eq(1),
                        write.slot.eq(last.slot),
                        write.value.eq(sums[n]),
                    ]

        ends = Signal(depth)
        m.d.comb += [
            self.fiber.eq(step.fiber),
            self.ends_nest.eq(step.final),
            self.ended.eq(go & step.end),
            self.filled.eq(ends[-1]),
            self.overflow.eq(
                Cat(
                    adder.overflow & some for adder, some in zip(adders, there[depth], strict=True)
                ).any()
            ),
            self.state.eq(
                Mux(
                    step_valid,
                    Mux(go, StageState.BUSY, StageState.STALLED),
                    Mux(self.expecting, StageState.STARVED, StageState.IDLE),
                )
            ),
        ]
        m.d.sync += ends.eq(Cat(self.ended, ends))
        return m

    def _add(
        self,
        m: Module,
        n: int,
        adder: Adder,
        sums: list[Value],
        step: Any,
        meets: list[Value],
        waits: Value,
        go: Value,
    ) -> None:
        """Build the path of term n from its step to its adder. It ``waits``, and may ``go``.

        The old value comes from the bank, or from the adder that outputs it in the cycle of the
        addition (``meets[0]``), of the bank's answer (``meets[1]``) or of the read (``meets[2]``);
        the most recent one is used.
        """
        at_addition, at_answer, at_read = meets

        def chosen(who: Value, otherwise: Value) -> Value:
            """Return the sum that ``who`` selects."""
            merged = Signal(WIDE_BITS, name="merged")
            pointed = (
                total & hit.replicate(WIDE_BITS) for total, hit in zip(sums, who, strict=True)
            )
            m.d.comb += merged.eq(Mux(who.any(), reduce(or_, pointed), otherwise))
            return merged

        # the cycle of the bank's answer
        value = Signal(WIDE_BITS, name=f"value_{n}", reset_less=True)
        valid = Signal(name=f"valid_{n}")
        add = Signal(name=f"add_{n}")
        bank = Signal(range(LANES), name=f"bank_{n}")
        early = Signal(WIDE_BITS, name=f"early_{n}", reset_less=True)
        is_early = Signal(name=f"is_early_{n}")
        from_answer = Signal(len(sums), name=f"from_answer_{n}")
        from_addition = Signal(len(sums), name=f"from_addition_{n}")
        m.d.sync += valid.eq(go & step.valid[n])
        with m.If(waits):
            m.d.sync += [
                value.eq(step.value[n]),
                add.eq(~step.first[n]),
                bank.eq(step.index[n]),
                is_early.eq(at_read.any()),
                from_answer.eq(at_answer),
                from_addition.eq(at_addition),
            ]
            with m.If(at_read.any()):
                m.d.sync += early.eq(chosen(at_read, Const(0)))
        answer = Mux(is_early, early, Array(self.value)[bank])

        # the cycle of the addition
        old = Signal(WIDE_BITS, name=f"old_{n}", reset_less=True)
        new = Signal(WIDE_BITS, name=f"new_{n}", reset_less=True)
        old_valid = Signal(name=f"old_valid_{n}")
        new_valid = Signal(name=f"new_valid_{n}")
        from_sum = Signal(len(sums), name=f"from_sum_{n}")
        m.d.sync += [old_valid.eq(valid & add), new_valid.eq(valid)]
        with m.If(valid):
            m.d.sync += [new.eq(value), from_sum.eq(from_addition)]
            with m.If(add):
                m.d.sync += old.eq(chosen(from_answer, answer))
        m.d.comb += [
            adder.advance.eq(1),
            adder.reduction.eq(self.reduction),
            adder.a.eq(chosen(from_sum, old)),
            adder.a_present.eq(old_valid),
            adder.b.eq(new),
            adder.b_present.eq(new_valid),
        ]


def _named(m: Module, name: str, value: Value) -> Signal:
    """Return a signal of this name that has the value."""
    signal = Signal(len(value), name=name)
    m.d.comb += signal.eq(value)
    return signal
