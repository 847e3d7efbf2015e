"""Eviction: frees slots when they run out."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..unary import highest_bit, lowest_bit, number
from .entries import walk_layout
from .place import BANK_BITS, BANKS, BLOCK, WORD_BITS, entry_layout, place_layout


class Eviction(wiring.Component):
    """Selects the blocks to evict: the highest words of a context, down to that of a new block,
    until enough slots are free; or the new block if that is the highest.

    If the new block is in the highest word itself, only the higher one is evicted, of it and the
    word's highest block. Blocks that have a slot are removed from the directory and the table, and
    their slots are freed, one per cycle, highest first.

    ``done`` rises some cycles after ``ask``; the last slots are freed after that. The eviction uses
    the directory's look-up exclusively; of the table's walk it comes first, and only passes without
    blocks can be walked meanwhile.

    Members
    -------
    ask : In(1)
        Held until ``done``; until then no lookup is decided and no block waits for the directory.
    candidate : In
        The new block of context ``context``.
    done : Out(1)
        ``bound`` is the lowest evicted block; the context keeps only blocks below it.
    evicted : Out(1)
        A pulse for each evicted block that had a slot.
    busy : Out(1)
        Blocks are being removed.
    look, next, looked, none, top, mask, keep, keep_valid
        `Directory`.
    walk, walked, walk_entry
        `Entries`.
    back, back_valid
        `FreeList`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        super().__init__(
            {
                "ask": In(1),
                "candidate": In(BLOCK),
                "context": In(place.members["context"]),
                "done": Out(1),
                "bound": Out(BLOCK),
                "evicted": Out(1),
                "busy": Out(1),
                "look": Out(1),
                "next": Out(1),
                "looked": In(1),
                "none": In(1),
                "top": In(WORD_BITS),
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
        candidate = self.candidate
        going = Signal(BANKS)  # blocks of the word to evict
        context = Signal.like(self.context)
        left = Signal()  # some are still to be walked
        alone = Signal()  # nothing else is evicted
        further = Signal()  # a word has been evicted
        least = self._config.evicted_slots
        count = Signal(range(least + BANKS))
        waiting = Signal(range(4))  # blocks whose entries are to be read
        first = highest_bit(m, going)
        put = Signal()
        m.d.comb += [
            put.eq(self.walk.valid & self.walk.ready),
            self.busy.eq(waiting != 0),
            self.walk.payload.place.bank.eq(number(first, BANK_BITS)),
            self.walk.payload.place.word.eq(self.top),
            self.walk.payload.place.context.eq(context),
            self.walk.payload.evicts.eq(1),
            self.back.eq(self.walk_entry.slot),
            self.back_valid.eq(self.walked),
            self.evicted.eq(self.walked),
        ]
        m.d.sync += [
            waiting.eq(waiting + put - self.walked),
            self.done.eq(0),
            self.keep_valid.eq(0),
        ]
        with m.If(put):
            m.d.sync += [
                going.eq(going & ~first),
                left.eq(going != first),
                count.eq(count + 1),
            ]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.ask & ~self.done):
                    m.d.comb += self.look.eq(1)
                    m.d.sync += [context.eq(self.context), count.eq(0), further.eq(0)]
                    m.next = "PICK"
            with m.State("PICK"):
                m.d.comb += self.busy.eq(1)
                largest = highest_bit(m, self.mask)
                number_ = number(largest, BANK_BITS)
                lower = self.top > candidate.word
                same = Signal()
                above = Signal()  # the candidate is the largest
                m.d.comb += [
                    same.eq(candidate.word == self.top),
                    above.eq(~lower & ~(same & (candidate.bank < number_))),
                ]
                with m.If(self.looked):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
                    with m.If(~further & above):
                        m.d.sync += self.bound.eq(candidate)
                    with m.Elif(~further | (lower & ~self.none)):
                        m.d.sync += [
                            going.eq(Mux(same, largest, self.mask)),
                            self.keep.eq(Mux(same, self.mask & ~largest, 0)),
                            self.keep_valid.eq(1),
                            self.bound.bank.eq(
                                Mux(same, number_, number(lowest_bit(m, self.mask), BANK_BITS))
                            ),
                            self.bound.word.eq(self.top),
                            left.eq(1),
                            alone.eq(same),
                            self.done.eq(0),
                        ]
                        m.next = "GO"
            with m.State("GO"):
                m.d.comb += [self.busy.eq(1), self.walk.valid.eq(left)]
                with m.If(~left):
                    with m.If(alone | (count >= least)):
                        m.d.sync += self.done.eq(1)
                        m.next = "IDLE"
                    with m.Else():
                        m.d.comb += self.next.eq(1)
                        m.d.sync += further.eq(1)
                        m.next = "PICK"
        return m
