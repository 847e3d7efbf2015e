"""The directory: which blocks each context holds, for walking them in order."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..tokens import PAIR
from .place import BANKS, place_layout
from .priority import at_least, highest_bit, lowest_bit, number

DEPTH = 8
"""Blocks that can wait, in each half, to be entered. A block has been entered at most ``DEPTH``
cycles after it was put.
"""


def word_layout(config: ChipConfig) -> data.StructLayout:
    """One step of a walk: the word, whether it is the walk's last, and whether the context is
    empty.
    """
    word = place_layout(config).members["word"]
    return data.StructLayout({"word": word, "last": 1, "empty": 1})


class Directory(wiring.Component):
    """A bit for each block of each context.

    A memory has a mask for each directory word, and registers have a bit for each word whose mask
    is valid. Even and odd words are in separate memories, so that two blocks can be entered per
    cycle.

    Members
    -------
    put : In, array of 2
        ``enable``, ``place``: a block to enter; needs ``room``.
    room : Out(1)
        Two blocks can be put. From a register.
    context : In, begin : In(1)
        With ``begin``, the context's words move to the walk, and the context is empty. No block may
        be put to this context or be waiting for it.
    word : Out, take : In(1), mask : Out
        The walk's lowest word, from a register. With ``take`` it is removed from the walk; its mask
        appears in the next cycle and stays until the next read.
    of : In, top : Out, look : In(1), top_mask : Out
        The highest word of context ``of`` as it was in the last cycle; with ``look`` its mask is
        read, and appears at ``mask``.
    keep, keep_valid : In
        Replaces the mask of the word that was read last. Only while no block waits to be entered.
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
                "begin": In(1),
                "word": Out(word_layout(config)),
                "take": In(1),
                "mask": Out(BANKS),
                "of": In(place.members["context"]),
                "top": Out(word),
                "look": In(1),
                "keep": In(BANKS),
                "keep_valid": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = self._config.window // BANKS
        contexts = self._config.fibers_in_flight
        used = [Signal(words, name=f"used_{c}") for c in range(contexts)]
        halves = min(PAIR, words)

        # The walk ascends, evictions descend.
        left = Signal(words)
        first = lowest_bit(m, left)
        some, more = at_least(m, left, 2)
        shown = Signal(words)
        highest = highest_bit(m, shown)
        looked = Signal.like(self.top)
        m.d.sync += shown.eq(Array(used)[self.of])
        m.d.comb += [
            self.word.word.eq(number(first, len(self.top))),
            # not through `first`, which arrives later in the cycle
            self.word.last.eq(~more),
            self.word.empty.eq(~some),
            self.top.eq(number(highest, len(self.top))),
        ]
        walked = Signal.like(self.context)
        with m.If(self.begin):
            m.d.sync += [left.eq(Array(used)[self.context]), walked.eq(self.context)]
        with m.Elif(self.take):
            m.d.sync += left.eq(left & ~first)
        with m.If(self.look):
            m.d.sync += looked.eq(self.top)

        # the masks
        word = Signal.like(self.top)
        context = Signal.like(self.context)
        m.d.comb += [
            word.eq(Mux(self.look, self.top, self.word.word)),
            context.eq(Mux(self.look, self.of, walked)),
        ]
        rooms, idles, masks, entered = [], [], [], []
        for half in range(halves):
            mask, room, idle, places = self._half(m, half, halves, used, word, context, looked)
            masks.append(mask)
            rooms.append(room)
            idles.append(idle)
            entered.append(places)
        read_half = Signal(range(PAIR))
        with m.If(self.take | self.look):
            m.d.sync += read_half.eq(word[0] if halves > 1 else 0)
        m.d.comb += [
            self.room.eq(Cat(rooms).all()),
            self.idle.eq(Cat(idles).all()),
            self.mask.eq(Array(masks)[read_half]),
        ]

        for c, bits in enumerate(used):
            new = reduce(or_, (Mux(of[c], word_bit, 0) for of, word_bit in entered))
            m.d.sync += bits.eq(bits | new)
            with m.If(self.keep_valid & (self.keep == 0) & (self.of == c)):
                m.d.sync += bits.bit_select(looked, 1).eq(0)
            with m.If(self.begin & (self.context == c)):
                m.d.sync += bits.eq(0)
        return m

    def _half(
        self,
        m: Module,
        half: int,
        halves: int,
        used: list[Signal],
        word: Value,
        context: Value,
        looked: Value,
    ) -> tuple[Value, Value, Value, tuple[Value, Value]]:
        """Build the queue and the masks of every second word.

        Return the mask that was read, whether two more blocks can be put, whether none waits, and
        which context and which word get a block.
        """
        place = place_layout(self._config)
        shift = halves - 1
        depth = (self._config.window // BANKS >> shift) * self._config.fibers_in_flight
        memory_ = memory.Memory(shape=BANKS, depth=depth, init=[])
        m.submodules[f"masks_{half}"] = memory_
        write = memory_.write_port(granularity=1)
        read = memory_.read_port(transparent_for=())

        # The queue of blocks to enter: up to two in, one out.
        queue = Array(Signal(place, name=f"entering_{half}_{n}") for n in range(DEPTH))
        level = Signal(range(DEPTH + 1), name=f"level_{half}")
        take_at = Signal(range(DEPTH), name=f"take_at_{half}")
        put_at = Signal(range(DEPTH), name=f"put_at_{half}")
        puts = Signal(PAIR, name=f"puts_{half}")
        enter = Signal(name=f"enter_{half}")
        m.d.comb += enter.eq(level != 0)
        for n, put in enumerate(self.put):
            here = put.place.word[0] == half if shift else 1
            m.d.comb += puts[n].eq(put.enable & here)
            with m.If(puts[n]):
                offset = puts[:n].any()
                m.d.sync += queue[(put_at + offset)[: len(put_at)]].eq(put.place)
        m.d.sync += [
            put_at.eq(put_at + puts[0] + puts[1]),
            take_at.eq(take_at + enter),
            level.eq(level + puts[0] + puts[1] - enter),
        ]

        # A word's first block sets the whole mask, further ones their bit.
        head = Signal(place, name=f"head_{half}")
        bit = Signal(BANKS, name=f"bit_{half}")
        head_used = Signal(name=f"head_used_{half}")
        m.d.comb += [
            head.eq(queue[take_at]),
            bit.eq(1 << head.bank),
            head_used.eq(Array(used)[head.context].bit_select(head.word, 1)),
            write.addr.eq(Cat(head.word[shift:], head.context)),
            write.data.eq(bit),
            write.en.eq(Mux(enter, Mux(head_used, bit, ~0), 0)),
            read.en.eq(self.take | self.look),
            read.addr.eq(Cat(word[shift:], context)),
        ]
        with m.If(self.keep_valid & ((looked[0] == half) if shift else 1)):
            m.d.comb += [
                write.addr.eq(Cat(looked[shift:], self.of)),
                write.data.eq(self.keep),
                write.en.eq(~0),
            ]
        of = Signal(len(used), name=f"of_{half}")
        word_bit = Signal(len(used[0]), name=f"word_bit_{half}")
        m.d.comb += [of.eq(enter << head.context), word_bit.eq(1 << head.word)]
        return read.data, level <= DEPTH - PAIR, level == 0, (of, word_bit)
