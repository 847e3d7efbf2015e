"""The accumulator slots that are free."""

from typing import Any

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..tokens import PAIR

HEAD = 8
"""Slots at hand in registers: the pairs in a row that can be taken before it comes down to one a
cycle."""


class FreeList(wiring.Component):
    """Hands slots out, up to two a cycle in bursts and one a cycle on end, and takes them back.

    At first every slot is free. Slots never used yet go first, then the others in the order they
    came back.

    Members
    -------
    slot : Out
        The next two slots.
    some : Out(2)
        ``some[i]``: ``slot[i]`` is there. From registers.
    take : In(range(3))
        How many leave in this cycle; no more than there are.
    free : Out
        Slots free, those not at hand yet included. From a register.
    back : In
        With ``back_valid``, a slot comes back.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._slots = config.slots
        super().__init__(
            {
                "slot": Out(data.ArrayLayout(config.slot_bits, PAIR)),
                "some": Out(PAIR),
                "take": In(range(PAIR + 1)),
                "free": Out(range(config.slots + 1), init=config.slots),
                "back": In(config.slot_bits),
                "back_valid": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = len(self.back)
        depth = self._slots
        m.submodules.returned = returned = memory.Memory(shape=bits, depth=depth, init=[])
        write = returned.write_port()
        read = returned.read_port(transparent_for=())

        head = Array(Signal(bits, name=f"head_{n}") for n in range(HEAD))
        head_at = Signal(range(HEAD))
        level = Signal(range(HEAD + 1))
        fresh = Signal(range(depth + 1))  # slots never handed out begin here
        put_at = Signal(range(depth))
        take_at = Signal(range(depth))
        waiting = Signal(range(depth + 1))
        reading = Signal()

        # one slot a cycle moves to the head: a fresh one, or one that was read
        room = level < HEAD - 1
        from_fresh = Signal()
        arrival = Signal(bits)
        m.d.comb += [
            from_fresh.eq((fresh != depth) & room),
            arrival.eq(fresh),
            read.en.eq((fresh == depth) & (waiting != 0) & room),
            read.addr.eq(take_at),
            write.en.eq(self.back_valid),
            write.addr.eq(put_at),
            write.data.eq(self.back),
            self.some.eq((level != 0) | (level > 1) << 1),
        ]
        with m.If(reading):
            m.d.comb += arrival.eq(read.data)
        with m.If(from_fresh | reading):
            m.d.sync += head[(head_at + level)[: len(head_at)]].eq(arrival)
        for n in range(PAIR):
            m.d.comb += self.slot[n].eq(head[(head_at + n)[: len(head_at)]])
        m.d.sync += [
            reading.eq(read.en),
            fresh.eq(fresh + from_fresh),
            level.eq(level + (from_fresh | reading) - self.take),
            head_at.eq(head_at + self.take),
            waiting.eq(waiting + self.back_valid - read.en),
            self.free.eq(self.free + self.back_valid - self.take),
        ]
        for pointer, step in ((put_at, write.en), (take_at, read.en)):
            with m.If(step):
                m.d.sync += pointer.eq(pointer + 1)
                with m.If(pointer == depth - 1):
                    m.d.sync += pointer.eq(0)
        return m
