"""Eviction: frees slots when they run out."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from .entries import walk_layout
from .place import BANK_BITS, BANKS, entry_layout, place_layout
from .priority import highest_bit, lowest_bit, number


class Eviction(wiring.Component):
    """Selects the blocks to evict: the highest word of a context, or a new block if that is higher.

    If the new block is in that word itself, only the higher one is evicted, of it and the word's
    highest block. Blocks that have a slot are removed from the directory and the table, and their
    slots are freed, one per cycle, highest first.

    ``done`` rises 2 cycles after ``ask``; the slots are freed after that. The eviction uses the
    directory's and the table's walk exclusively.

    Members
    -------
    ask : In(1)
        Held until ``done``; until then no lookup is decided and no block waits for the directory.
    candidate : In
        The new block (bank and word, counted from the pass's lower word) of context ``context``.
    done : Out(1)
        ``bound`` is the lowest evicted block; the context keeps only blocks below it.
    evicted : Out(1)
        A pulse for each evicted block that had a slot.
    busy : Out(1)
        Blocks are being removed.
    top, look, mask, keep, keep_valid
        `Directory`.
    walk, walked, walk_entry
        `Entries`.
    back, back_valid
        `FreeList`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        word = place.members["word"]
        block = BANK_BITS + word
        super().__init__(
            {
                "ask": In(1),
                "candidate": In(block),
                "context": In(place.members["context"]),
                "done": Out(1),
                "bound": Out(block),
                "evicted": Out(1),
                "busy": Out(1),
                "top": In(word),
                "look": Out(1),
                "mask": In(BANKS),
                "keep": Out(BANKS),
                "keep_valid": Out(1),
                "walk": Out(stream.Signature(walk_layout(config))),
                "walked": In(1),
                "walk_entry": In(entry_layout(config)),
                "back": Out(config.slot_bits),
                "back_valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        candidate = data.View(
            data.StructLayout({"bank": BANK_BITS, "word": len(self.top)}), self.candidate
        )
        word = Signal.like(self.top)
        going = Signal(BANKS)  # blocks of the word to evict
        context = Signal.like(self.context)
        higher = Signal()  # the candidate's word is higher
        same = Signal()
        left = Signal()  # some are still to be walked
        waiting = Signal(range(3))  # blocks whose entries are to be read
        read = Signal()
        first = highest_bit(m, going)
        put = Signal()
        m.d.comb += [
            put.eq(self.walk.valid & self.walk.ready),
            self.busy.eq((waiting != 0) | read),
            self.walk.payload.place.bank.eq(number(first, BANK_BITS)),
            self.walk.payload.place.word.eq(word),
            self.walk.payload.place.context.eq(context),
            self.walk.payload.evicts.eq(1),
            self.back.eq(self.walk_entry.slot),
            self.back_valid.eq(read),
            self.evicted.eq(read),
        ]
        m.d.sync += [
            waiting.eq(waiting + put - self.walked),
            read.eq(self.walked),
            self.done.eq(0),
            self.keep_valid.eq(0),
        ]
        with m.If(put):
            m.d.sync += [going.eq(going & ~first), left.eq(going != first)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.ask & ~self.done):
                    m.d.comb += self.look.eq(1)
                    m.d.sync += [
                        word.eq(self.top),
                        context.eq(self.context),
                        higher.eq(candidate.word > self.top),
                        same.eq(candidate.word == self.top),
                    ]
                    m.next = "PICK"
            with m.State("PICK"):
                m.d.comb += self.busy.eq(1)
                largest = highest_bit(m, self.mask)
                number_ = number(largest, BANK_BITS)
                above = Signal()  # the candidate is the largest
                m.d.comb += above.eq(higher | (same & (candidate.bank > number_)))
                m.d.sync += [
                    going.eq(Mux(same, largest, self.mask)),
                    self.keep.eq(Mux(same, self.mask & ~largest, 0)),
                    self.bound.eq(
                        Cat(Mux(same, number_, number(lowest_bit(m, self.mask), BANK_BITS)), word)
                    ),
                    left.eq(1),
                    self.done.eq(1),
                    self.keep_valid.eq(~above),
                ]
                m.next = "GO"
                with m.If(above):
                    m.d.sync += self.bound.eq(self.candidate)
                    m.next = "IDLE"
            with m.State("GO"):
                m.d.comb += [self.busy.eq(1), self.walk.valid.eq(left)]
                with m.If(~left):
                    m.next = "IDLE"
        return m
