"""The block table's memory: which lanes of a block are touched, and which slot it has."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..queue import Queue
from ..tokens import PAIR
from .place import BANK_BITS, BANKS, address, entry_layout, place_layout

LOW_WORDS = 4
"""Words of each context that are swept first, a power of two."""

PATIENCE = 3
"""Cycles for which the lookups may keep the walk from a bank."""


def walk_layout(config: ChipConfig) -> data.StructLayout:
    """A place to read and clear, and with ``pair`` also bank ``second`` of the same word; or none.

    ``closes`` marks the last one of a context, ``evicts`` those of an eviction (the others are the
    drain's).
    """
    place = place_layout(config)
    return data.StructLayout(
        {"place": place, "second": BANK_BITS, "pair": 1, "none": 1, "closes": 1, "evicts": 1}
    )


def _banks(walk: data.View) -> Value:
    """Return the banks that a walk reads and clears."""
    one_hot = (1 << walk.place.bank) | Mux(walk.pair, 1 << walk.second, 0)
    return Mux(walk.none, 0, one_hot)[:BANKS]


class Entries(wiring.Component):
    """An entry for each place (block of a context), in 32 banks by the block's low bits.

    Two readers share the banks: the lookups, two places per cycle in different banks; and the walk
    (drain or eviction), which clears what it has read. The lookups have priority, unless ``hurry``
    is set or the walk has waited for `PATIENCE` cycles. Read data is valid in the next cycle only.

    After a reset the banks are swept, a word (the same address in all banks) a cycle: first the low
    words of all contexts, which is all that narrow results need, then the others context by
    context. Lookups of what has been swept go on meanwhile.

    Members
    -------
    read : In, array of 2
        ``enable``, ``place``: what the lookups request to read; they read with ``advance``.
    entry : Out, array of 2
        The data of the last cycle's reads.
    refused : Out(1)
        The walk takes a bank that the lookups request: they must not advance.
    write : In, array of 2
        ``enable``, ``place`` and ``entry``; always done.
    walk : In(stream)
        Places to read and clear, through a registered queue of two.
    room : In(1)
        The walk's read data can be taken.
    hurry : In(1)
        The walk has priority.
    walked : Out(1), evicts : Out(1), walk_entry : Out, array of 2
        The next places are read, and whether they are the eviction's; the data follows in the next
        cycle.
    closed : Out(1)
        A walk with ``closes`` and all walks before it have been cleared.
    swept : Out, low_swept : Out(1)
        Number of contexts swept; whether the words below ``LOW_WORDS`` are, of all contexts.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        entry = entry_layout(config)
        super().__init__(
            {
                "read": In(
                    data.ArrayLayout(data.StructLayout({"enable": 1, "place": place}), PAIR)
                ),
                "entry": Out(data.ArrayLayout(entry, PAIR)),
                "advance": In(1),
                "refused": Out(1),
                "write": In(
                    data.ArrayLayout(
                        data.StructLayout({"enable": 1, "place": place, "entry": entry}), PAIR
                    )
                ),
                "walk": In(stream.Signature(walk_layout(config))),
                "room": In(1),
                "hurry": In(1),
                "walked": Out(1),
                "evicts": Out(1),
                "walk_entry": Out(data.ArrayLayout(entry, PAIR)),
                "closed": Out(1),
                "swept": Out(range(config.fibers_in_flight + 1)),
                "low_swept": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = self._config.window // BANKS
        contexts = self._config.fibers_in_flight
        layout = entry_layout(self._config)

        m.submodules.walks = walks = Queue(walk_layout(self._config), 2)
        wiring.connect(m, wiring.flipped(self.walk), walks.i)
        walk = walks.o.payload
        accepted = self.walked
        m.d.comb += [walks.o.ready.eq(accepted), self.evicts.eq(walk.evicts)]

        # Two clears may wait for their bank's write port, where the lookups have priority.
        clears = [Signal(walk_layout(self._config), name=f"clear_{n}") for n in range(2)]
        waiting = Signal(2)
        cleared = Signal()
        with m.If(cleared | ~waiting[0]):
            m.d.sync += [
                clears[0].eq(clears[1]),
                waiting.eq(waiting[1] & waiting[0]),
            ]
            with m.If(~waiting[1]):
                m.d.sync += [clears[0].eq(walk), waiting.eq(accepted)]
        with m.Elif(~waiting[1]):
            m.d.sync += [clears[1].eq(walk), waiting[1].eq(accepted)]
        m.d.comb += self.closed.eq(cleared & clears[0].closes)
        walk_banks = Signal(BANKS)
        clear_banks = Signal(BANKS)
        m.d.comb += [
            walk_banks.eq(_banks(walk)),
            clear_banks.eq(Mux(waiting[0], _banks(clears[0]), 0)),
        ]

        low_words = min(LOW_WORDS, words)
        sweep_word = Signal(range(max(words, 2)))
        sweep_context = Signal(range(max(contexts, 2)))
        sweep_left = Signal(BANKS, init=(1 << BANKS) - 1)
        sweeping = self.swept != contexts
        sweep_address = Cat(
            sweep_word[: (words - 1).bit_length()], sweep_context[: (contexts - 1).bit_length()]
        )

        wanted = Signal(BANKS)  # by the lookups' reads
        written = Signal(BANKS)  # by the lookups' writes
        found = []
        for b in range(BANKS):
            bank = memory.Memory(shape=layout, depth=words * contexts, init=[])
            m.submodules[f"bank_{b}"] = bank
            write = bank.write_port()
            read = bank.read_port(transparent_for=())
            found.append(read.data)

            m.d.comb += [
                read.addr.eq(address(walk.place)),
                read.en.eq(wanted[b] | (accepted & walk_banks[b])),
                write.addr.eq(sweep_address),
                write.en.eq(written[b] | clear_banks[b] | sweeping),
            ]
            with m.If(clear_banks[b]):
                m.d.comb += write.addr.eq(address(clears[0].place))
            for asked in self.read:
                with m.If(asked.enable & self.advance & (asked.place.bank == b)):
                    m.d.comb += [wanted[b].eq(1), read.addr.eq(address(asked.place))]
            for put in self.write:
                with m.If(put.enable & (put.place.bank == b)):
                    m.d.comb += [
                        written[b].eq(1),
                        write.addr.eq(address(put.place)),
                        write.data.eq(put.entry),
                    ]

        # One of the two may be cleared twice; it cannot have been entered again by then.
        m.d.comb += cleared.eq(waiting[0] & ~(written & clear_banks).any())

        # the walk
        wants = Signal()
        clash = Signal()
        patience = Signal(range(PATIENCE + 1))
        m.d.comb += [
            clash.eq(
                Cat(
                    asked.enable & walk_banks.bit_select(asked.place.bank, 1) for asked in self.read
                ).any()
            ),
            wants.eq(walks.o.valid & self.room),
            accepted.eq(wants & ~waiting[1] & ~(clash & self.advance)),
            self.refused.eq(wants & ((clash & self.hurry & ~waiting[1]) | (patience == PATIENCE))),
        ]
        with m.If(wants & ~accepted & (patience != PATIENCE)):
            m.d.sync += patience.eq(patience + 1)
        with m.Elif(accepted):
            m.d.sync += patience.eq(0)

        # what was read
        by_bank = Array(found)
        for n, asked in enumerate(self.read):
            bank_read = Signal(BANK_BITS, name=f"bank_read_{n}")
            m.d.sync += bank_read.eq(asked.place.bank)
            m.d.comb += self.entry[n].eq(by_bank[bank_read])
        for n, bank in enumerate((walk.place.bank, walk.second)):
            bank_walked = Signal(BANK_BITS, name=f"bank_walked_{n}")
            m.d.sync += bank_walked.eq(bank)
            m.d.comb += self.walk_entry[n].eq(by_bank[bank_walked])

        # the sweep
        taken = written | clear_banks
        with m.If(sweeping):
            m.d.sync += sweep_left.eq(sweep_left & taken)
            with m.If(~(sweep_left & taken).any()):
                m.d.sync += [sweep_left.eq(~0), sweep_word.eq(sweep_word + 1)]
                next_context = (sweep_context + 1)[: len(sweep_context)]
                with m.If(~self.low_swept & (sweep_word == low_words - 1)):
                    m.d.sync += [sweep_word.eq(0), sweep_context.eq(next_context)]
                    with m.If(sweep_context == contexts - 1):
                        m.d.sync += [self.low_swept.eq(1), sweep_context.eq(0)]
                        if low_words < words:
                            m.d.sync += sweep_word.eq(low_words)
                        else:
                            m.d.sync += self.swept.eq(contexts)
                with m.If(self.low_swept & (sweep_word == words - 1)):
                    m.d.sync += [
                        sweep_word.eq(low_words),
                        sweep_context.eq(next_context),
                        self.swept.eq(self.swept + 1),
                    ]
        return m
