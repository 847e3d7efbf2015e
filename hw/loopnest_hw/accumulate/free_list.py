"""The free list of accumulator slots."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import PAIR, ChipConfig

HEAD = 8
"""Free slots that are held in registers."""


class FreeList(wiring.Component):
    """Allocates up to two slots per cycle, and frees as many.

    After reset every slot is free. Slots that were never used are allocated first, then the others
    in the order in which they were freed. A freed slot can be allocated in the next cycle if no
    other one is free, and four cycles later otherwise. (At two allocations per cycle, the second
    slot may be one cycle late; two cycles pass between the last slot that was never used and the
    first reused one.)

    Members
    -------
    slot : Out
        The next two slots.
    some : Out(2)
        ``some[i]``: ``slot[i]`` is valid. From registers.
    take : In(range(3))
        How many are allocated in this cycle; no more than are valid.
    free : Out
        Number of free slots, including those not in registers yet. From a register.
    back : In, array of 2, back_valid : In(2)
        Slots to free; the second one only with the first.
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

        # Freed slots, in a ring of two memories: even and odd places.
        places = max(2, 1 << (depth - 1).bit_length())
        put_at = Signal(range(places))
        take_at = Signal(range(places))
        waiting = Signal(range(depth + 1))
        fetch = Signal(range(PAIR + 1))
        fetched = Signal(range(PAIR + 1))
        turned = Signal()  # the first one fetched is at an odd place
        returned = Signal(range(PAIR + 1))
        kept = Signal(range(PAIR + 1))  # the freed slots that go into the ring
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

        # Up to two per cycle move to the head registers: fresh ones, those fetched from the ring
        # or, if there are no others, those just freed.
        head = Array(Signal(bits, name=f"head_{n}") for n in range(HEAD))
        head_at = Signal(range(HEAD))
        level = Signal(range(HEAD + 1))
        fresh = Signal(range(depth + 2))  # slots from here on were never allocated
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
