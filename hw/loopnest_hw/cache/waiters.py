"""The groups of requests that wait for lines from memory."""

from typing import Any

from amaranth.hdl import Array, Assert, Assume, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..formal import FORMAL
from ..queue import Queue
from ..unary import lowest_bit, number
from .geometry import CacheConfig, group, place


def waiter(config: CacheConfig) -> data.StructLayout:
    """A group of requests, and the place in the bank of the line that it waits for."""
    return data.StructLayout({"place": place(config), "group": group(config)})


def replay(config: CacheConfig) -> data.StructLayout:
    """A waiter whose line has arrived, with its number."""
    return data.StructLayout({"number": config.waiter_bits, "error": 1, "waiter": waiter(config)})


def arrival(config: CacheConfig) -> data.StructLayout:
    """The answer of memory to a list that starts with waiter ``number``."""
    return data.StructLayout({"number": config.waiter_bits, "error": 1})


class Waiters(wiring.Component):
    """Lists of waiters, one for each line that is on its way; ``waiters`` in all.

    The first waiter of a list is the one that missed: its number goes to memory with the read and
    comes back with the line. Others join behind the list's last one, even while it is replayed.
    When a line arrives, its list is replayed in order, one waiter every other cycle; lists are
    replayed one after the other, in the order in which their lines arrived.

    Members
    -------
    free : Out, some : Out(1)
        The number of a free waiter, if there is ``some``. From registers.
    take : In(1), content : In(`waiter`)
        It is taken, and is this waiter; not in the cycle of a transfer at ``o``.
    join : In(1), behind : In
        With ``take``: it joins the list whose last waiter is ``behind``; otherwise it starts one.
    arrive : stream of `arrival`, in
        ``ready`` is assumed: each list's line arrives once.
    o : stream of `replay`, out
        Waiters to answer. One must not be taken in the first cycle in which it is valid. It is free
        afterwards.
    last : In(1)
        With a transfer at ``o``: no other waiter is behind this one.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        bits = config.waiter_bits
        super().__init__(
            {
                "free": Out(bits),
                "some": Out(1),
                "take": In(1),
                "content": In(waiter(config)),
                "join": In(1),
                "behind": In(bits),
                "arrive": In(stream.Signature(arrival(config))),
                "o": Out(stream.Signature(replay(config))),
                "last": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        done = Signal()
        m.d.comb += done.eq(self.o.valid & self.o.ready)

        # one is picked ahead, and counts as used from then on
        used = Signal(config.waiters)
        available = Signal(config.waiters)
        pick = Signal(config.waiters)
        picks = Signal()
        m.d.comb += [
            available.eq(~used),
            picks.eq(~self.some | self.take),
            pick.eq(Mux(picks, lowest_bit(m, available), 0)),
        ]
        with m.If(picks):
            m.d.sync += [
                self.free.eq(number(pick, config.waiter_bits)),
                self.some.eq(available.any()),
            ]
        m.d.sync += used.eq((used | pick) & ~(done << self.o.payload.number))

        # the waiters, and each one's successor
        m.submodules.contents = contents = memory.Memory(
            shape=waiter(config), depth=config.waiters, init=[]
        )
        m.submodules.successors = successors = memory.Memory(
            shape=config.waiter_bits, depth=config.waiters, init=[]
        )
        write = contents.write_port()
        link = successors.write_port()
        read = contents.read_port(transparent_for=())
        follow = successors.read_port(transparent_for=())
        # What joins, and behind which waiter, is known late: the link is written a cycle later. The
        # memory shows the next one in the cycle after the next.
        links, linked = Signal(), Signal()
        link_from, linked_from = Signal(config.waiter_bits), Signal(config.waiter_bits)
        link_to, linked_to = Signal(config.waiter_bits), Signal(config.waiter_bits)
        m.d.comb += [
            write.en.eq(self.take),
            write.addr.eq(self.free),
            write.data.eq(self.content),
            link.en.eq(links),
            link.addr.eq(link_from),
            link.data.eq(link_to),
        ]
        m.d.sync += [
            Cat(links, link_from, link_to).eq(Cat(self.take & self.join, self.behind, self.free)),
            Cat(linked, linked_from, linked_to).eq(Cat(links, link_from, link_to)),
        ]

        # replay
        m.submodules.arrivals = arrivals = Queue(arrival(config), config.waiters)
        m.d.comb += [
            arrivals.i.valid.eq(self.arrive.valid),
            arrivals.i.payload.eq(self.arrive.payload),
            self.arrive.ready.eq(1),
        ]
        current = Signal(config.waiter_bits)
        error = Signal()
        successor = Signal(config.waiter_bits)
        goes_on = Signal()
        fetch = Signal()
        m.d.comb += [
            successor.eq(
                Mux(
                    links & (link_from == current),
                    link_to,
                    Mux(linked & (linked_from == current), linked_to, follow.data),
                )
            ),
            goes_on.eq(done & ~self.last),
            fetch.eq(goes_on | ((~self.o.valid | done) & arrivals.o.valid)),
            arrivals.o.ready.eq((~self.o.valid | done) & ~goes_on),
            read.en.eq(fetch),
            read.addr.eq(Mux(goes_on, successor, arrivals.o.payload.number)),
            follow.en.eq(1),
            follow.addr.eq(current),
            self.o.payload.number.eq(current),
            self.o.payload.error.eq(error),
            self.o.payload.waiter.eq(read.data),
        ]
        m.d.sync += self.o.valid.eq(fetch | (self.o.valid & ~done))
        with m.If(fetch):
            m.d.sync += current.eq(read.addr)
        with m.If(arrivals.o.ready):
            m.d.sync += error.eq(arrivals.o.payload.error)

        if platform == FORMAL:
            # No waiter is lost, or replayed twice. These are its states:
            numbers = range(config.waiters)
            waits = Signal(config.waiters)
            first = Signal(config.waiters)  # of a list whose replay has not begun
            arrived = Signal(config.waiters)
            follows = Array(Signal(config.waiter_bits, name=f"follows_{n}") for n in numbers)
            followed = Signal(config.waiters)
            in_hand = Signal(config.waiters)
            begins = Signal()  # the waiter at `o` is new
            stored = Array(Signal(config.waiter_bits, name=f"stored_{n}") for n in numbers)
            memory_read = Signal(config.waiter_bits)
            from_arrivals = fetch & ~goes_on
            joins = self.take & self.join
            m.d.comb += in_hand.eq(self.o.valid << current)
            m.d.sync += [
                waits.eq((waits | (self.take << self.free)) & ~(done << current)),
                first.eq(
                    (first | ((self.take & ~self.join) << self.free))
                    & ~(from_arrivals << read.addr)
                ),
                arrived.eq(
                    (arrived | (self.arrive.valid << self.arrive.payload.number))
                    & ~(from_arrivals << read.addr)
                ),
                followed.eq((followed & ~(self.take << self.free)) | (joins << self.behind)),
                begins.eq(fetch),
                memory_read.eq(stored[current]),
            ]
            with m.If(joins):
                m.d.sync += follows[self.behind].eq(self.free)
            with m.If(link.en):
                m.d.sync += stored[link.addr].eq(link.data)
            # what the bank and memory guarantee, and the memories do
            m.d.comb += [
                Assume(~self.take | (self.some & ~done)),
                Assume(~joins | (waits & ~followed).bit_select(self.behind, 1)),
                Assume(~done | (~begins & (self.last == ~followed.bit_select(current, 1)))),
                Assume(
                    ~self.arrive.valid
                    | (first & ~arrived).bit_select(self.arrive.payload.number, 1)
                ),
                Assume(~arrivals.o.valid | arrived.bit_select(arrivals.o.payload.number, 1)),
                Assume(follow.data == memory_read),
            ]
            free = (self.some << self.free)[: config.waiters]
            m.d.comb += [
                Assert(used == (waits | free)),
                Assert((waits & free) == 0),
                Assert((in_hand & ~waits) == 0),
                Assert((first & (~waits | in_hand)) == 0),
                Assert((arrived & ~first) == 0),
                Assert(~linked | (stored[linked_from] == linked_to)),
                Assert(
                    begins | (linked & (linked_from == current)) | (memory_read == stored[current])
                ),
                Assert(
                    ~self.o.valid
                    | begins
                    | ~followed.bit_select(current, 1)
                    | (successor == follows[current])
                ),
            ]
            for n in numbers:
                goes_before = waits[n] & followed[n]
                behind = waits & ~first & ~in_hand
                m.d.comb += Assert(~goes_before | behind.bit_select(follows[n], 1))
                waiting = links & (link_from == n)
                m.d.comb += Assert(~followed[n] | (follows[n] == Mux(waiting, link_to, stored[n])))
                for other in numbers[:n]:
                    both = goes_before & waits[other] & followed[other]
                    m.d.comb += Assert(~both | (follows[n] != follows[other]))
        return m
