"""The line reader: reads lines through one ring of the pool, in order."""

from typing import Any

from amaranth.hdl import Assert, Assume, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BITS, LINE_BYTES, ChipConfig
from ..formal import FORMAL
from ..queue import SkidBuffer
from .pool import pool_client, ring


class LineReader(wiring.Component):
    """Reads lines by number (byte address / 32), one per cycle, ahead of their use by up to its
    ring.

    A line is requested only when its slot is free, so no answer is ever refused; slots are used in
    ring order. ``ring`` is registered; it must be constant from the cycle before the first number
    on.

    ``wants`` is high if there is a number, even if it cannot be sent for other reasons; with it, a
    full ring sets ``pool.waiting``.

    A number is requested in the same cycle; from the line's arrival to ``o`` it takes a cycle.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(LINE_BITS)),
                "wants": In(1),
                "o": Out(stream.Signature(8 * LINE_BYTES)),
                "ring": In(ring(config)),
                "pool": Out(pool_client(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pool = self.pool
        # Other streams send requests too; a queue lets the numbers after a waiting one be accepted.
        m.submodules.requests = requests = SkidBuffer(pool.request.payload.shape(), 2)
        m.d.comb += [
            pool.request.valid.eq(requests.o.valid),
            pool.request.payload.eq(requests.o.payload),
            requests.o.ready.eq(pool.request.ready),
        ]
        asked = Signal()
        taken = Signal()
        fetched = Signal()
        m.d.sync += fetched.eq(taken)

        # Until the first request, the state follows the settings.
        started = Signal()
        with m.If(asked):
            m.d.sync += started.eq(1)

        def ring_pointer(name: str, step: Value) -> Signal:
            pointer = Signal(self._config.pool_bits, name=name)
            with m.If((~started & ~step) | (step & (pointer == self.ring.last))):
                m.d.sync += pointer.eq(self.ring.base)
            with m.Elif(step):
                m.d.sync += pointer.eq(pointer + 1)
            return pointer

        free = Signal(range(self._config.pool_lines + 1))
        room = free != 0
        with m.If(started | asked):
            # A taken line's slot is free a cycle later.
            m.d.sync += free.eq(free - asked + fetched)
        with m.Else():
            m.d.sync += free.eq(self.ring.last - self.ring.base + 1)
        m.d.comb += [
            self.i.ready.eq(room & requests.i.ready),
            requests.i.valid.eq(self.i.valid & room),
            requests.i.payload.line.eq(self.i.payload),
            requests.i.payload.slot.eq(ring_pointer("ask_slot", asked)),
            asked.eq(self.i.valid & self.i.ready),
            pool.waiting.eq(self.wants & ~room),
        ]

        # Arrival is checked in ring order, one slot per cycle, ahead of the takes.
        seen = Signal()
        turn = Signal(init=1)  # value of `arrived` once the slot's next line has arrived
        # without the one seen in this cycle
        available = Signal(range(self._config.pool_lines + 1))
        m.d.comb += [
            pool.probe.eq(ring_pointer("probe_slot", seen)),
            seen.eq(pool.arrived == turn),
        ]
        with m.If(seen & (pool.probe == self.ring.last)):
            m.d.sync += turn.eq(~turn)
        m.d.sync += available.eq(available + seen - taken)

        # The next line is prefetched, so that streams that take their lines at the same time do not
        # slow each other down. It comes from the pool (`fetched`) and is taken immediately or kept
        # (`held`).
        held = Signal()
        kept = Signal(8 * LINE_BYTES, reset_less=True)
        sent = Signal()
        m.d.comb += [
            self.o.valid.eq(fetched | held),
            self.o.payload.eq(Mux(held, kept, pool.data)),
            sent.eq(self.o.valid & self.o.ready),
            pool.take.valid.eq((seen | (available != 0)) & (~self.o.valid | self.o.ready)),
            taken.eq(pool.take.valid & pool.take.ready),
            pool.take.payload.eq(ring_pointer("take_slot", taken)),
        ]
        m.d.sync += held.eq(self.o.valid & ~sent)
        with m.If(fetched):
            m.d.sync += kept.eq(pool.data)

        if platform == FORMAL:
            # The contract: the ring is constant, and only requested lines arrive.
            ring_before = Signal.like(self.ring)
            due = Signal(range(self._config.pool_lines + 1))
            m.d.sync += [ring_before.eq(self.ring), due.eq(due + asked - seen)]
            m.d.comb += [
                Assume(self.ring.base <= self.ring.last),
                Assume(
                    ~(started | self.i.valid) | (ring_before.as_value() == self.ring.as_value())
                ),
                Assume(~seen | (due != 0)),
            ]
            # A line of the ring is free, requested, available or being read from the pool.
            lines = Mux(started, ring_before.last - ring_before.base + 1, free)
            m.d.comb += [
                Assert(started | (free == 0) | (free == ring_before.last - ring_before.base + 1)),
                Assert(lines == free + due + available + fetched),
                Assert(started | (requests.i.payload.slot == ring_before.base)),
                Assert(~(fetched & held)),
            ]
        return m
