"""Which blocks the contexts hold, in an order to walk them by."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..tokens import PAIR
from .place import BANKS, address, place_layout
from .priority import highest_bit, lowest_bit, number

DEPTH = 8
"""Blocks that wait to be entered. Whatever is put in has been entered ``DEPTH`` cycles later."""


def word_layout(config: ChipConfig) -> data.StructLayout:
    """A step of a walk: the word, and whether the walk ends with it; or the context is empty."""
    word = place_layout(config).members["word"]
    return data.StructLayout({"word": word, "last": 1, "empty": 1})


class Directory(wiring.Component):
    """A bit for each block of each context.

    There is a mask for each word, in a memory, and in registers a bit for each word that has one
    (the others' masks mean nothing).

    Members
    -------
    put : In, array of 2
        ``enable``, ``place``: a block to enter; needs ``room``.
    room : Out(1)
        Two blocks can be put. From a register.
    context : In
        The context that is walked or looked at.
    word, take : In(1), mask
        The context's lowest word. With ``take`` it is taken off, and its mask appears at
        ``mask`` in the next cycle and stays until the next read.
    top : Out, look : In(1)
        The context's highest word; with ``look`` its mask is read and the word stays.
    keep, keep_word, keep_valid : In
        The word's mask comes down to this. Only while nothing waits to be entered.
    idle : Out(1)
        Nothing waits to be entered.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        word = place.members["word"]
        super().__init__(
            {
                "put": In(data.ArrayLayout(data.StructLayout({"enable": 1, "place": place}), PAIR)),
                "room": Out(1),
                "context": In(place.members["context"]),
                "word": Out(word_layout(config)),
                "take": In(1),
                "mask": Out(BANKS),
                "top": Out(word),
                "look": In(1),
                "keep": In(BANKS),
                "keep_word": In(word),
                "keep_valid": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        place = place_layout(self._config)
        words = self._config.window // BANKS
        contexts = self._config.fibers_in_flight
        masks = memory.Memory(shape=BANKS, depth=words * contexts, init=[])
        m.submodules.masks = masks
        write = masks.write_port(granularity=1)
        read = masks.read_port(transparent_for=())
        used = [Signal(words, name=f"used_{c}") for c in range(contexts)]

        # The queue of blocks to enter: two in, one out.
        queue = Array(Signal(place, name=f"entering_{n}") for n in range(DEPTH))
        level = Signal(range(DEPTH + 1))
        take_at = Signal(range(DEPTH))
        put_at = Signal(range(DEPTH))
        puts = Cat(put.enable for put in self.put)
        enter = Signal()
        m.d.comb += [
            self.room.eq(level <= DEPTH - PAIR),
            self.idle.eq(level == 0),
            enter.eq(level != 0),
        ]
        for n, put in enumerate(self.put):
            with m.If(put.enable):
                offset = puts[:n].any()
                m.d.sync += queue[(put_at + offset)[: len(put_at)]].eq(put.place)
        m.d.sync += [
            put_at.eq(put_at + puts[0] + puts[1]),
            take_at.eq(take_at + enter),
            level.eq(level + puts[0] + puts[1] - enter),
        ]

        # A word's first block sets the whole mask, further ones their bit.
        head = Signal(place)
        bit = Signal(BANKS)
        head_used = Signal()
        m.d.comb += [
            head.eq(queue[take_at]),
            bit.eq(1 << head.bank),
            head_used.eq(Array(used)[head.context].bit_select(head.word, 1)),
            write.addr.eq(address(head)),
            write.data.eq(bit),
            write.en.eq(Mux(enter, Mux(head_used, bit, ~0), 0)),
        ]
        with m.If(enter):
            for c, bits in enumerate(used):
                with m.If(head.context == c):
                    m.d.sync += bits.bit_select(head.word, 1).eq(1)

        # The walk goes up, evictions come down.
        shown = Signal(words)
        m.d.comb += shown.eq(Array(used)[self.context])
        first = lowest_bit(m, shown)
        highest = highest_bit(m, shown)
        m.d.comb += [
            self.word.word.eq(number(first, len(self.top))),
            self.word.last.eq(shown == first),
            self.word.empty.eq(~shown.any()),
            self.top.eq(number(highest, len(self.top))),
            read.en.eq(self.take | self.look),
            read.addr.eq(Cat(Mux(self.look, self.top, self.word.word), self.context)),
            self.mask.eq(read.data),
        ]
        with m.If(self.keep_valid):
            m.d.comb += [
                write.addr.eq(Cat(self.keep_word, self.context)),
                write.data.eq(self.keep),
                write.en.eq(~0),
            ]
        for c, bits in enumerate(used):
            with m.If(self.context == c):
                with m.If(self.take):
                    # Nothing enters a context that is walked.
                    m.d.sync += bits.eq(bits & ~first)
                with m.If(self.keep_valid & (self.keep == 0)):
                    m.d.sync += bits.bit_select(self.keep_word, 1).eq(0)
        return m
