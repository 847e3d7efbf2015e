"""The accumulator slots that are free."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..tokens import PAIR

HEAD = 8
"""Slots at hand in registers."""


class FreeList(wiring.Component):
    """Hands slots out, up to two a cycle, and takes as many back.

    At first every slot is free. Slots never used yet go first, then the others in the order they
    came back. A slot that comes back can be taken in the next cycle where no other one is free, and
    four cycles later otherwise. (While two a cycle are taken, the second one may be a cycle late;
    and two cycles pass once between the last slot never used and the first used one.)

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
    back : In, array of 2, back_valid : In(2)
        Slots that come back; the second one only with the first.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._slots = config.slots
        super().__init__(
            {
                "slot": Out(data.ArrayLayout(config.slot_bits, PAIR)),
                "some": Out(PAIR),
                "take": In(range(PAIR + 1)),
                "free": Out(range(config.slots + 1), init=config.slots),
                "back": In(data.ArrayLayout(config.slot_bits, PAIR)),
                "back_valid": In(PAIR),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = len(self.back[0])
        depth = self._slots

        # Slots that came back, in a ring of two memories: even places and odd ones.
        places = max(2, 1 << (depth - 1).bit_length())
        put_at = Signal(range(places))
        take_at = Signal(range(places))
        waiting = Signal(range(depth + 1))
        fetch = Signal(range(PAIR + 1))
        fetched = Signal(range(PAIR + 1))
        turned = Signal()  # the first one fetched is of an odd place
        returned = Signal(range(PAIR + 1))
        kept = Signal(range(PAIR + 1))  # of those that come back, what goes into the ring
        found = []
        for odd in range(PAIR):
            half = memory.Memory(shape=bits, depth=places // PAIR, init=[])
            m.submodules[f"returned_{odd}"] = half
            write = half.write_port()
            read = half.read_port(transparent_for=())
            found.append(read.data)
            m.d.comb += [
                write.addr.eq(put_at[1:] + (0 if odd else put_at[0])),
                write.data.eq(Mux(put_at[0] == odd, self.back[0], self.back[1])),
                write.en.eq((kept == PAIR) | ((kept == 1) & (put_at[0] == odd))),
                read.addr.eq(take_at[1:] + (0 if odd else take_at[0])),
                read.en.eq((fetch == PAIR) | ((fetch == 1) & (take_at[0] == odd))),
            ]

        # Up to two a cycle move to the head: fresh ones, those that were fetched, or, where there
        # is nothing else, those that come back.
        head = Array(Signal(bits, name=f"head_{n}") for n in range(HEAD))
        head_at = Signal(range(HEAD))
        level = Signal(range(HEAD + 1))
        fresh = Signal(range(depth + 2))  # slots never handed out begin here
        fresh_left = Signal(init=1)
        room = Signal()
        direct = Signal()
        arrivals = Signal(range(PAIR + 1))
        arrival = Signal(data.ArrayLayout(bits, PAIR))
        m.d.comb += [
            room.eq(level <= HEAD - 2 * PAIR),
            direct.eq(self.back_valid[0] & ~fresh_left & (waiting == 0) & (fetched == 0) & room),
            returned.eq(self.back_valid[0] + self.back_valid[1]),
            kept.eq(Mux(direct, 0, returned)),
            fetch.eq(Mux(fresh_left | ~room, 0, Mux(waiting >= PAIR, PAIR, waiting[0]))),
        ]
        with m.If(fresh_left):
            m.d.comb += [
                arrivals.eq(Mux(room, Mux(fresh + 1 == depth, 1, PAIR), 0)),
                arrival[0].eq(fresh),
                arrival[1].eq(fresh + 1),
            ]
        with m.Elif(direct):
            m.d.comb += [arrivals.eq(returned), arrival.eq(self.back)]
        with m.Else():
            m.d.comb += [
                arrivals.eq(fetched),
                arrival[0].eq(Mux(turned, found[1], found[0])),
                arrival[1].eq(Mux(turned, found[0], found[1])),
            ]
        with m.If(fresh_left & room):
            m.d.sync += [
                fresh.eq(fresh + PAIR),
                fresh_left.eq(fresh + PAIR < depth),
            ]
        for n in range(HEAD):
            for k in range(PAIR):
                here = (head_at + level + k)[: len(head_at)] == n
                with m.If((arrivals > k) & here):
                    m.d.sync += head[n].eq(arrival[k])
        for n in range(PAIR):
            m.d.comb += self.slot[n].eq(head[(head_at + n)[: len(head_at)]])

        m.d.comb += self.some.eq((level != 0) | (level > 1) << 1)
        m.d.sync += [
            fetched.eq(fetch),
            turned.eq(take_at[0]),
            level.eq(level + arrivals - self.take),
            head_at.eq(head_at + self.take),
            waiting.eq(waiting + kept - fetch),
            put_at.eq(put_at + kept),
            take_at.eq(take_at + fetch),
            self.free.eq(self.free + returned - self.take),
        ]
        return m
