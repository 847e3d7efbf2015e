"""How a fiber gets on when the slots run out."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from .entries import walk_layout
from .place import BANK_BITS, BANKS, entry_layout, place_layout
from .priority import highest_bit, number


class Eviction(wiring.Component):
    """Finds the block that goes: the largest one of a context, or a new one if that is larger.

    A block that is held is taken out of the directory and of the table, and its slot is freed. It
    takes about 6 cycles, and needs the directory and the walk for itself.

    Members
    -------
    ask : In(1)
        Held until ``done``; no lookup is decided meanwhile.
    candidate : In
        The new block (bank and word, counted from the pass's lower word) of context ``context``.
    done : Out(1)
        ``bound`` is the block that went; the context keeps only what is below it.
    evicted : Out(1)
        A pulse for each block that was held.
    busy : Out(1)
        The ports below are in use: they are `Directory`'s, `Entries`' and `FreeList`'s.
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
                "keep_word": Out(word),
                "keep_valid": Out(1),
                "walk": Out(stream.Signature(walk_layout(config))),
                "walk_entry": In(entry_layout(config)),
                "back": Out(config.slot_bits),
                "back_valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        largest = Signal(data.StructLayout({"bank": BANK_BITS, "word": len(self.top)}))
        highest = Signal(BANKS)
        m.d.comb += [
            highest.eq(highest_bit(m, self.mask)),
            self.busy.eq(1),
            self.keep_word.eq(largest.word),
            self.walk.payload.place.eq(Cat(largest, self.context)),
            self.back.eq(self.walk_entry.slot),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                with m.If(self.ask):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += self.look.eq(1)
                m.d.sync += largest.word.eq(self.top)
                m.next = "PICK"
            with m.State("PICK"):
                m.d.sync += [
                    largest.bank.eq(number(highest, BANK_BITS)),
                    self.keep.eq(self.mask & ~highest),
                ]
                m.next = "COMPARE"
            with m.State("COMPARE"):
                with m.If(self.candidate > largest.as_value()):
                    m.d.sync += self.bound.eq(self.candidate)
                    m.next = "DONE"
                with m.Else():
                    m.d.sync += self.bound.eq(largest)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.walk.valid.eq(1)
                with m.If(self.walk.ready):
                    m.next = "FREE"
            with m.State("FREE"):
                m.d.comb += [
                    self.back_valid.eq(1),
                    self.keep_valid.eq(1),
                    self.evicted.eq(1),
                ]
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        return m
