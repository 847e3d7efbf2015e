"""The combiner: adds the copies of each key."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arith.adder import Adder
from ..arith.delay import Flow, delayed
from ..config import LANES, MAX_LOG2_COPIES, POSITION_BITS, WIDE_BITS, ChipConfig
from ..descriptor import Reduction
from ..format import BLOCK_COORDINATE_BITS
from ..queue import Queue
from ..register import payload_register
from ..tokens import RESULT_BLOCK
from ..unary import lowest_bit, number

COPIES = 1 << MAX_LOG2_COPIES
"""Maximum number of copies of a key."""

LANE_BITS = LANES.bit_length() - 1

HEADER = data.StructLayout(
    {"coordinate": BLOCK_COORDINATE_BITS, "fiber": POSITION_BITS, "last": 1, "final": 1}
)
"""A block without its lanes."""

ARRIVAL = data.StructLayout(
    {
        **{name: shape for name, shape in RESULT_BLOCK.members.items() if name != "value"},
        "key": BLOCK_COORDINATE_BITS,
        "same": 1,
        "closes": 1,
    }
)
"""A waiting block without its values: the block coordinate that it is a copy of, and whether the
block before it had the same one; ``closes``: it is the last copy.
"""

VALUES = data.ArrayLayout(WIDE_BITS, LANES)

TAG = data.StructLayout({"valid": 1, "lane": LANE_BITS})
"""A lane in the adders, if ``valid``."""


class Combiner(wiring.Component):
    """Adds the blocks ``coordinate * 2**copies + n``, lane by lane, in the order of n.

    The copies of a block arrive one after the other, with ascending n; a lane with a term in one
    copy only passes unchanged. Blocks first enter a queue of two. If ``copies`` is 0, they leave
    the queue unchanged.

    Otherwise copies are stored, one per cycle, until the last one is at the queue's head. Then the
    lanes are added, lowest first: two per cycle, the second only if it has at most two copies. The
    lanes' values pass through a chain of adders and are reassembled into a block. The latency is
    three additions and two cycles.

    Members
    -------
    copies : In(2)
        0, 1, 2: one copy, two or four. Constant while blocks arrive.
    reduction : In(Reduction)
        Replaces the sum; constant while blocks arrive.
    i : In(stream.Signature(tokens.RESULT_BLOCK))
    o : Out(stream.Signature(tokens.RESULT_BLOCK))
    overflow : Out(1)
        int8: a sum does not fit int32. Stays until reset.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "copies": In(range(MAX_LOG2_COPIES + 1)),
                "reduction": In(Reduction),
                "i": In(stream.Signature(RESULT_BLOCK)),
                "o": Out(stream.Signature(RESULT_BLOCK)),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.adders = adders = Chains(self._config)
        m.submodules.headers = headers = Queue(HEADER, adders.latency + 2)
        m.submodules.arrivals = arrivals = Queue(ARRIVAL, 2)
        values = self._arrive(m, arrivals)
        taken = self._gather(m, arrivals, values, adders, headers)
        block, valid, room = self._put_together(m, adders, headers)
        m.d.comb += [
            self.o.valid.eq(valid),
            self.o.payload.eq(block),
            room.eq(self.o.ready),
            arrivals.o.ready.eq(taken),
            adders.reduction.eq(self.reduction),
            self.overflow.eq(adders.overflow),
        ]
        with m.If(self.copies == 0):
            m.d.comb += [
                self.o.valid.eq(arrivals.o.valid),
                *(
                    self.o.payload[name].eq(values if name == "value" else arrivals.o.payload[name])
                    for name in RESULT_BLOCK.members
                ),
                arrivals.o.ready.eq(self.o.ready),
            ]
        return m

    def _arrive(self, m: Module, arrivals: Queue) -> data.View:
        """Compare keys before the queue, where the timing is less critical.

        Return the values that belong to the queue's head. They are not moved through the queue: the
        signal that a block is taken arrives too late in the cycle to drive so many registers.
        """
        item = self.i.payload
        arrival = arrivals.i.payload
        ones = Signal(MAX_LOG2_COPIES)
        key = Signal(BLOCK_COORDINATE_BITS)
        before = Signal(BLOCK_COORDINATE_BITS)
        with m.Switch(self.copies):
            for copies in range(1, MAX_LOG2_COPIES + 1):
                with m.Case(copies):
                    m.d.comb += [ones.eq((1 << copies) - 1), key.eq(item.coordinate >> copies)]
        m.d.comb += [
            arrivals.i.valid.eq(self.i.valid),
            self.i.ready.eq(arrivals.i.ready),
            *(arrival[name].eq(item[name]) for name in RESULT_BLOCK.members if name != "value"),
            arrival.key.eq(Mux(item.mask == 0, 0, key)),
            arrival.same.eq((key == before) | (item.mask == 0)),
            arrival.closes.eq(
                item.last | (item.mask == 0) | ((item.coordinate[:MAX_LOG2_COPIES] & ones) == ones)
            ),
        ]
        kept = Array(Signal(VALUES, name=f"values_{n}", reset_less=True) for n in range(2))
        take_at = Signal()
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [before.eq(key), kept[take_at ^ arrivals.o.valid].eq(item.value)]
        with m.If(arrivals.o.valid & arrivals.o.ready):
            m.d.sync += take_at.eq(~take_at)
        values = Signal(VALUES)
        m.d.comb += values.eq(kept[take_at])
        return values

    def _gather(
        self, m: Module, arrivals: Queue, values: Any, adders: "Chains", headers: Queue
    ) -> Signal:
        """Store copies until the last one arrives, then send the lanes to the adders.

        Return whether the arriving copy is done.
        """
        item = arrivals.o.payload

        # A lane's copies are stored in order of arrival: `stored[n]` are lanes with
        # more than n of them.
        stored = [Signal(LANES, name=f"stored_{n}") for n in range(COPIES - 1)]
        value = [
            Signal(data.ArrayLayout(WIDE_BITS, LANES), name=f"value_{n}", reset_less=True)
            for n in range(COPIES - 1)
        ]
        header = Signal(HEADER, reset_less=True)
        some = Signal()  # a copy is stored

        joins = Signal()
        closes = Signal()
        keeps = Signal()
        sends = Signal()
        arriving = Signal(LANES)
        m.d.comb += [
            # The stored copies belong to the previous block.
            joins.eq(~some | item.same),
            closes.eq(joins & item.closes),
            keeps.eq(arrivals.o.valid & (self.copies != 0) & joins & ~closes),
            sends.eq(arrivals.o.valid & (self.copies != 0) & ~keeps),
            arriving.eq(Mux(joins, item.mask, 0)),
        ]
        gone = Signal(LANES)
        left = Signal(LANES)
        many = Signal(LANES)  # lanes with more than two copies
        rest = Signal(LANES)
        second = Signal(LANES)
        m.d.comb += left.eq((stored[0] | arriving) & ~gone)
        first = lowest_bit(m, left)
        m.d.comb += rest.eq(left & ~first)
        following = lowest_bit(m, rest)
        end = Signal()
        go = Signal()
        m.d.comb += [
            many.eq(stored[2] | (stored[1] & arriving)),
            second.eq(Mux((following & many).any(), 0, following)),
            end.eq(rest == second),
            go.eq(sends & adders.ready),
        ]
        # The queue can take all that the adders hold, so a registered ready is sufficient.
        m.d.sync += headers.i.valid.eq(go & end)
        done = payload_register(m, headers.i)
        with m.If(go & end):
            m.d.sync += [
                done.coordinate.eq(Mux(some, header.coordinate, item.key)),
                done.fiber.eq(Mux(some, header.fiber, item.fiber)),
                done.last.eq(joins & item.last),
                done.final.eq(joins & item.final),
            ]

        m.d.comb += [adders.valid.eq(go), adders.end.eq(end)]
        for place, chosen in enumerate((first, second)):
            port = adders.i[place]

            def pick(lanes: Any, chosen: Value = chosen) -> Value:
                return reduce(or_, (Mux(chosen[k], lanes[k], 0) for k in range(LANES)))

            here = Signal(name=f"here_{place}")
            has = [Signal(name=f"has_{place}_{n}") for n in range(COPIES - 1)]
            m.d.comb += here.eq((chosen & arriving).any())
            m.d.comb += [has[n].eq((chosen & stored[n]).any()) for n in range(COPIES - 1)]
            arrived = Signal(WIDE_BITS, name=f"arrived_{place}")
            m.d.comb += [
                arrived.eq(pick(values)),
                port.tag.valid.eq(chosen.any()),
                port.tag.lane.eq(number(chosen, LANE_BITS)),
            ]
            # The arriving copy is the lane's last one.
            before: Value = Value.cast(1)
            for n in range(COPIES):
                if n < COPIES - 1:
                    m.d.comb += [
                        port.value[n].eq(Mux(has[n], pick(value[n]), arrived)),
                        port.present[n].eq(has[n] | (before & here)),
                    ]
                    before = has[n]
                else:
                    m.d.comb += [port.value[n].eq(arrived), port.present[n].eq(before & here)]

        with m.If(keeps):
            m.d.sync += [
                some.eq(1),
                header.coordinate.eq(item.key),
                header.fiber.eq(item.fiber),
            ]
            below = Value.cast((1 << LANES) - 1)
            for n in range(COPIES - 1):
                m.d.sync += stored[n].eq(stored[n] | (item.mask & below))
                for lane in range(LANES):
                    with m.If(item.mask[lane] & ~stored[n][lane]):
                        m.d.sync += value[n][lane].eq(values[lane])
                below = stored[n]
        with m.If(go):
            m.d.sync += gone.eq(gone | first | second)
            with m.If(end):
                m.d.sync += [gone.eq(0), some.eq(0)]
                m.d.sync += [bits.eq(0) for bits in stored]
        taken = Signal()
        m.d.comb += taken.eq(keeps | (go & end & joins))
        return taken

    def _put_together(
        self, m: Module, adders: "Chains", headers: Queue
    ) -> tuple[Signal, Signal, Signal]:
        """Collect a block's lanes; return it, whether it is complete, and its ``ready``."""
        block = Signal(RESULT_BLOCK, reset_less=True)
        valid = Signal()
        ready = Signal()
        fresh = Signal(init=1)
        take = Signal()
        header = headers.o.payload
        m.d.comb += [
            take.eq(adders.o_valid & (~valid | ready) & (headers.o.valid | ~adders.o_end)),
            adders.advance.eq(take | ~adders.o_valid),
            headers.o.ready.eq(take & adders.o_end),
        ]
        with m.If(ready):
            m.d.sync += valid.eq(0)
        hits = [Mux(port.tag.valid, Value.cast(1) << port.tag.lane, 0)[:LANES] for port in adders.o]
        came = [Signal(LANES, name=f"came_{n}") for n in range(len(hits))]
        m.d.comb += [signal.eq(hit) for signal, hit in zip(came, hits, strict=True)]
        with m.If(take):
            m.d.sync += [
                fresh.eq(adders.o_end),
                valid.eq(adders.o_end),
                block.mask.eq(Mux(fresh, 0, block.mask) | reduce(or_, came)),
                block.coordinate.eq(header.coordinate),
                block.second.as_value().eq(0),
                block.fiber.eq(header.fiber),
                block.last.eq(header.last),
                block.final.eq(header.final),
            ]
            for lane in range(LANES):
                with m.If(came[0][lane]):
                    m.d.sync += block.value[lane].eq(adders.o[0].value)
                with m.Elif(came[1][lane]):
                    m.d.sync += block.value[lane].eq(adders.o[1].value)
        return block, valid, ready


class Chains(wiring.Component):
    """Two chains of adders: of up to four values, and of up to two. One each per cycle.

    Members
    -------
    reduction : In(Reduction)
    ready : Out(1), valid : In(1), end : In(1), i : In, array of 2
        Taken with ``valid``, only if ``ready``: ``present[n]`` marks the valid values; if one is
        valid, so are those before it.
    advance : In(1), o_valid, o_end : Out(1), o : Out, array of 2
        The outputs hold until ``advance``, which must be set while there is none.
    overflow : Out(1)
        A sum wrapped; stays until reset.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        self._adders = [[Adder(config) for _ in range(n)] for n in (COPIES - 1, 1)]
        self._add_latency = self._adders[0][0].latency
        self.latency = (COPIES - 1) * self._add_latency + 1
        ask = data.StructLayout(
            {"tag": TAG, "value": data.ArrayLayout(WIDE_BITS, COPIES), "present": COPIES}
        )
        answer = data.StructLayout({"tag": TAG, "value": WIDE_BITS})
        super().__init__(
            {
                "reduction": In(Reduction),
                "ready": Out(1),
                "valid": In(1),
                "end": In(1),
                "i": In(data.ArrayLayout(ask, 2)),
                "advance": In(1),
                "o_valid": Out(1),
                "o_end": Out(1),
                "o": Out(data.ArrayLayout(answer, 2)),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        latency = self._add_latency

        flow = Flow(m, self.valid, self.latency, advance=self.advance)
        m.d.comb += [
            self.ready.eq(self.advance),
            self.o_valid.eq(flow.valid[-1]),
            self.o_end.eq(delayed(m, self.end, flow.load)),
        ]
        wrapped = []
        for c, adders in enumerate(self._adders):
            asked = self.i[c]
            # a value waits for the sum of those before it
            waits = [1 + max(0, n - 1) * latency for n in range(len(adders) + 1)]
            picked = [
                Flow(m, self.valid & asked.present[n], wait, advance=self.advance)
                for n, wait in enumerate(waits)
            ]
            values = [delayed(m, asked.value[n], way.load) for n, way in enumerate(picked)]
            total, some = values[0], picked[0].valid[-1]
            for n, adder in enumerate(adders, start=1):
                m.submodules[f"adder_{c}_{n}"] = adder
                m.d.comb += [
                    adder.advance.eq(self.advance),
                    adder.reduction.eq(self.reduction),
                    adder.a.eq(total),
                    adder.a_present.eq(some),
                    adder.b.eq(values[n]),
                    adder.b_present.eq(picked[n].valid[-1]),
                ]
                total, some = adder.o, adder.o_present
                wrapped.append(adder.overflow)
            added = 1 + len(adders) * latency
            m.d.comb += [
                self.o[c].value.eq(delayed(m, total, flow.load[added:])),
                self.o[c].tag.eq(delayed(m, asked.tag.as_value(), flow.load)),
            ]
        with m.If(Cat(wrapped).any()):
            m.d.sync += self.overflow.eq(1)
        return m
