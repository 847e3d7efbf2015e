"""The directory: which blocks each context holds, for walking them in order."""

from functools import reduce
from operator import xor
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import PAIR, ChipConfig
from ..queue import Queue
from ..unary import highest_bit, lowest_bit, number, some_of
from .place import BANKS, WORD_BITS, context_bits, context_pointer, place_layout, set_bits
from .words import Words, word_set_bits

DEPTH = 8
"""Blocks that can wait, in each half, to be entered."""

AHEAD = 4
"""Words that are found ahead of the drain."""

GROUP_BITS = 6
"""Low bits of a word's number: its number within its group."""

GROUP = 1 << GROUP_BITS
"""Words of a group."""

GROUPS = 1 << (WORD_BITS - GROUP_BITS)
"""Groups of a context."""

WALKED_WORD = data.StructLayout({"word": WORD_BITS, "mask": BANKS, "last": 1, "empty": 1})
"""A word of a walk and its blocks; whether it is the context's last; whether there is none."""


def half_of(word: Value) -> Value:
    """Return the half of the directory that has the word: words at any stride take turns."""
    return reduce(xor, (word[n] for n in range(GROUP_BITS)))


class Directory(wiring.Component):
    """The held blocks of each context: bits for its groups, a bit for each word of a group, and a
    mask for each word in use, found by hash (`Words`).

    The words are in two halves, so that two blocks can be entered per cycle.

    Members
    -------
    put : In, array of 2
        ``enable``, ``place``: a block to enter; needs ``room``.
    room : Out(1)
        Two blocks can be put. From a register.
    ended : In
        Pointer of the first context that blocks can still be put to. The contexts before it are
        walked, one after the other, when all their blocks have been entered; they are empty then.
    word : Out(stream(WALKED_WORD))
        The words of these contexts, ascending.
    of : In, look : In(1), next : In(1), looked : Out(1), none : Out(1), top : Out, mask : Out
        With ``look``, the highest word of context ``of`` and its blocks are looked up: valid from
        ``looked`` on. Only while ``idle``, and while no context is walked. With ``next``, once that
        word is gone, the next lower one; ``none``: there is none.
    keep, keep_valid : In
        Replaces the mask of the word that was looked up; with 0 the word is gone.
    idle : Out(1)
        Nothing waits to be entered.
    sweep, sweep_set : In
        `Words`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        super().__init__(
            {
                "put": In(data.ArrayLayout(data.StructLayout({"enable": 1, "place": place}), PAIR)),
                "room": Out(1),
                "ended": In(context_pointer(config)),
                "word": Out(stream.Signature(WALKED_WORD)),
                "of": In(context_bits(config)),
                "look": In(1),
                "next": In(1),
                "looked": Out(1),
                "none": Out(1),
                "top": Out(WORD_BITS),
                "mask": Out(BANKS),
                "keep": In(BANKS),
                "keep_valid": In(1),
                "idle": Out(1),
                "sweep": In(1),
                "sweep_set": In(set_bits(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        contexts = self._config.fibers_in_flight
        words = [Words(self._config) for _ in range(PAIR)]
        self._used = [Signal(GROUPS, name=f"used_{c}") for c in range(contexts)]
        # In this cycle, groups of a context get their first word, and lose their last one.
        gains = [Signal(GROUPS, name=f"gains_{c}") for c in range(contexts)]
        loses = [Signal(GROUPS, name=f"loses_{c}") for c in range(contexts)]
        changes = [Signal(name=f"changes_{c}") for c in range(contexts)]
        self._changes = list(zip(gains, loses, changes, strict=True))
        for used, gained, lost, change in zip(self._used, gains, loses, changes, strict=True):
            with m.If(change):
                m.d.sync += used.eq((used | gained) & ~lost)
        rooms, idles = [], []
        self._inside: list[Value] = []  # blocks that wait or are being entered, in each half
        for half in range(PAIR):
            m.submodules[f"words_{half}"] = words[half]
            room, idle = self._queue(m, half, words[half])
            rooms.append(room)
            idles.append(idle & ~words[half].busy)
            m.d.comb += [
                words[half].sweep.eq(self.sweep),
                words[half].sweep_set.eq(self.sweep_set[: word_set_bits(self._config)]),
            ]
        writes, reads = self._rows(m, words)
        m.d.comb += [
            self.room.eq(Cat(rooms).all()),
            self.idle.eq(Cat(idles).all() & ~self._adding.any()),
        ]
        self._seal(m, words)

        walk = self._walk(m, words, reads)
        self._look(m, words, writes, reads, *walk)
        return m

    def _queue(self, m: Module, half: int, words: Words) -> tuple[Value, Value]:
        """Queue the blocks to enter, up to two in and one out; return whether two more can be put,
        and whether none waits.
        """
        place = place_layout(self._config)
        queue = Array(
            Signal(place, name=f"entering_{half}_{n}", reset_less=True) for n in range(DEPTH)
        )
        level = Signal(range(DEPTH + 1), name=f"level_{half}")
        take_at = Signal(range(DEPTH), name=f"take_at_{half}")
        put_at = Signal(range(DEPTH), name=f"put_at_{half}")
        puts = Signal(PAIR, name=f"puts_{half}")
        take = words.put.valid & words.put.ready
        for n, put in enumerate(self.put):
            m.d.comb += puts[n].eq(put.enable & (half_of(put.place.word) == half))
            with m.If(puts[n]):
                offset = puts[:n].any()
                m.d.sync += queue[(put_at + offset)[: len(put_at)]].eq(put.place)
        m.d.comb += [words.put.valid.eq(level != 0), words.put.payload.eq(queue[take_at])]
        m.d.sync += [
            put_at.eq(put_at + puts[0] + puts[1]),
            take_at.eq(take_at + take),
            level.eq(level + puts[0] + puts[1] - take),
        ]
        self._inside.append(level + words.busy)
        return level <= DEPTH - PAIR, level == 0

    def _seal(self, m: Module, words: list[Words]) -> None:
        """Find out which contexts have all their blocks: those that have ended when the blocks that
        waited then have been entered.
        """
        pointer = context_pointer(self._config)
        self._context = Signal(pointer)  # the next one to walk
        sealed = Signal(pointer)
        counting = Signal()
        closing = Signal()
        until = Signal(pointer)
        left = [Signal(range(DEPTH + 2), name=f"left_{half}") for half in range(PAIR)]
        self._ready = sealed != self._context
        with m.If(counting):
            for count, half in zip(left, words, strict=True):
                m.d.sync += count.eq(count - ((count != 0) & half.busy & ~half.stalled))
            # a word is in its row at most two cycles after its first block has been entered
            m.d.sync += closing.eq(~Cat(left).any())
            with m.If(closing):
                m.d.sync += [sealed.eq(until), counting.eq(0), closing.eq(0)]
        with m.Elif(self.ended != sealed):
            with m.If(self.idle):
                m.d.sync += sealed.eq(self.ended)
            with m.Else():
                m.d.sync += [counting.eq(1), until.eq(self.ended)]
                for count, inside, half in zip(left, self._inside, words, strict=True):
                    m.d.sync += count.eq(inside - (half.busy & ~half.stalled))

    def _rows(self, m: Module, words: list[Words]) -> tuple[list[Any], list[Any]]:
        """Keep the words of each group of each context, a row with half of them in either memory;
        return the ports for writes and for reads.

        A word is added one cycle after its first block is entered. A group's first word sets the
        rows of both halves, further ones their bit. So where both halves have a word to add and one
        is its group's first, they take turns.
        """
        used = self._used
        width = GROUP // PAIR
        places = [
            Signal(place_layout(self._config), name=f"adding_{half}", reset_less=True)
            for half in range(PAIR)
        ]
        self._adding = adding = Signal(PAIR)
        first = Signal(PAIR)
        goes = Signal(PAIR)
        turn = Signal()  # half 1 has waited
        together = Signal()  # both add to the same group, or none is its group's first
        groups = [Cat(place.word[GROUP_BITS:], place.context) for place in places]
        m.d.comb += [
            together.eq(~first.any() | (groups[0] == groups[1])),
            goes[0].eq(adding[0] & (~adding[1] | together | ~turn)),
            goes[1].eq(adding[1] & (~adding[0] | together | turn)),
        ]
        m.d.sync += turn.eq(adding[1] & ~goes[1])
        writes, reads = [], []
        for half, place in enumerate(places):
            rows = memory.Memory(shape=width, depth=GROUPS * len(used), init=[])
            m.submodules[f"rows_{half}"] = rows
            writes.append(rows.write_port(granularity=1))
            reads.append(rows.read_port(transparent_for=()))
            m.d.comb += [
                first[half].eq(~Array(used)[place.context].bit_select(place.word[GROUP_BITS:], 1)),
                words[half].hold.eq(adding[half] & ~goes[half]),
            ]
            m.d.sync += adding[half].eq(words[half].added | (adding[half] & ~goes[half]))
            with m.If(words[half].added):
                m.d.sync += place.eq(words[half].place)
        for half, (place, write) in enumerate(zip(places, writes, strict=True)):
            bit = Signal(width, name=f"bit_{half}")
            m.d.comb += [
                bit.eq(1 << place.word[1:GROUP_BITS]),
                write.addr.eq(Mux(goes[half], groups[half], groups[1 - half])),
                write.data.eq(Mux(goes[half], bit, 0)),
                write.en.eq(
                    Mux(
                        goes[half] & ~first[half],
                        bit,
                        ((goes & first) != 0).replicate(width),
                    )
                ),
            ]
        for c, (gained, _, change) in enumerate(self._changes):
            for half, place in enumerate(places):
                with m.If(goes[half] & (place.context == c)):
                    m.d.comb += [change.eq(1), gained.bit_select(place.word[GROUP_BITS:], 1).eq(1)]
        return writes, reads

    def _walk(self, m: Module, words: list[Words], reads: list[Any]) -> tuple[Signal, Signal]:
        """Walk the contexts: their groups, the groups' words, and the words' masks. Return the
        registers of the groups and of a group's words.
        """
        used = self._used
        here = Signal(context_bits(self._config), reset_less=True)

        # the groups that are left
        groups = Signal(GROUPS, reset_less=True)
        walking = Signal()
        group = lowest_bit(m, groups)
        some, more = some_of(m, groups, 2)
        fetch = Signal()
        begin = Signal()
        m.d.comb += begin.eq(self._ready & (~walking | (fetch & ~more)))
        with m.If(begin | self.look):
            shown = Mux(self.look, self.of, self._context[:-1])
            m.d.sync += groups.eq(Array(used)[shown])
        with m.Elif(fetch):
            m.d.sync += groups.eq(groups & ~group)
        for c, (_, lost, change) in enumerate(self._changes):
            with m.If(begin & (self._context[:-1] == c)):
                m.d.comb += [change.eq(1), lost.eq(-1)]
        with m.If(begin):
            m.d.sync += [
                self._context.eq(self._context + 1),
                here.eq(self._context[:-1]),
                walking.eq(1),
            ]
        with m.Elif(fetch & ~more):
            m.d.sync += walking.eq(0)

        # the group whose row is read, and the one whose words are walked
        layout = data.StructLayout({"group": WORD_BITS - GROUP_BITS, "last": 1, "empty": 1})
        at = data.StructLayout({"of": layout, "context": context_bits(self._config)})
        read = Signal(at, reset_less=True)
        read_valid = Signal()
        row = Signal(at, reset_less=True)
        row_valid = Signal()
        left = Signal(GROUP, reset_less=True)
        move = Signal()
        row_done = Signal()
        m.d.comb += [
            move.eq(read_valid & (~row_valid | row_done)),
            fetch.eq(walking & (~read_valid | move)),
        ]
        group_number = number(group, len(read.of.group))
        with m.If(fetch):
            m.d.sync += [
                read.of.group.eq(group_number),
                read.of.last.eq(~more),
                read.of.empty.eq(~some),
                read.context.eq(here),
            ]
        m.d.sync += read_valid.eq(fetch | (read_valid & ~move))
        m.d.sync += row_valid.eq(move | (row_valid & ~row_done))
        for port in reads:
            m.d.comb += [port.en.eq(fetch), port.addr.eq(Cat(group_number, here))]

        first = lowest_bit(m, left)
        _, another = some_of(m, left, 2)
        taken = Signal()
        with m.If(move):
            m.d.sync += [
                row.eq(read),
                left.eq(Mux(read.of.empty, 0, _merged(reads))),
            ]
        with m.Elif(taken):
            m.d.sync += left.eq(left & ~first)
        m.d.comb += row_done.eq(taken & ~another)

        # the word whose mask is found
        item = Signal(WALKED_WORD, reset_less=True)
        item_valid = Signal()
        item_half = Signal(reset_less=True)
        word = Signal(WORD_BITS)
        half = half_of(word)
        m.submodules.ahead = ahead = Queue(WALKED_WORD, AHEAD)
        wiring.connect(m, ahead.o, wiring.flipped(self.word))
        item_done = Signal()
        m.d.comb += [
            word.eq(Cat(number(first, GROUP_BITS), row.of.group)),
            taken.eq(row_valid & (~item_valid | item_done)),
            ahead.i.payload.eq(item),
            ahead.i.payload.mask.eq(
                Mux(item.empty, 0, Mux(item_half, words[1].mask.payload, words[0].mask.payload))
            ),
            ahead.i.valid.eq(
                item_valid & (item.empty | Mux(item_half, words[1].mask.valid, words[0].mask.valid))
            ),
            item_done.eq(ahead.i.valid & ahead.i.ready),
        ]
        with m.If(taken):
            m.d.sync += [
                item.word.eq(word),
                item.last.eq(row.of.last & ~another),
                item.empty.eq(row.of.empty),
                item_half.eq(half),
            ]
        m.d.sync += item_valid.eq(taken | (item_valid & ~item_done))
        for n, table in enumerate(words):
            m.d.comb += [
                table.find.valid.eq(taken & ~row.of.empty & (half == n)),
                table.find.payload.place.word.eq(word),
                table.find.payload.place.context.eq(row.context),
                table.find.payload.remove.eq(1),
                table.mask.ready.eq(item_valid & ~item.empty & (item_half == n) & ahead.i.ready),
            ]
        return groups, left

    def _look(
        self,
        m: Module,
        words: list[Words],
        writes: list[Any],
        reads: list[Any],
        groups: Signal,
        left: Signal,
    ) -> None:
        """Look up the highest word of a context, and replace its mask. Nothing is walked."""
        group = Signal(WORD_BITS - GROUP_BITS, reset_less=True)
        top_group = highest_bit(m, groups)
        top_word = highest_bit(m, left)
        word = Cat(number(top_word, GROUP_BITS), group)
        top_half = Signal(reset_less=True)
        alone = Signal(reset_less=True)  # the word is the only one of its group
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.look):
                    m.d.sync += self.none.eq(0)
                    m.next = "GROUP"
                with m.Elif(self.next):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += left.eq(left & ~top_word)
                m.next = "WORD"
                with m.If(alone):
                    m.d.sync += groups.eq(groups & ~top_group)
                    m.next = "GROUP"
            with m.State("GROUP"):
                m.d.sync += group.eq(number(top_group, len(group)))
                m.next = "READ"
                with m.If(~groups.any()):
                    m.d.sync += [self.none.eq(1), self.looked.eq(1)]
                    m.next = "IDLE"
            with m.State("READ"):
                for port in reads:
                    m.d.comb += [port.en.eq(1), port.addr.eq(Cat(group, self.of))]
                m.next = "ROW"
            with m.State("ROW"):
                m.d.sync += left.eq(_merged(reads))
                m.next = "WORD"
            with m.State("WORD"):
                m.d.sync += [
                    self.top.eq(word),
                    top_half.eq(half_of(word)),
                    alone.eq(~some_of(m, left, 2)[1]),
                ]
                m.next = "FIND"
            with m.State("FIND"):
                for n, table in enumerate(words):
                    m.d.comb += [
                        table.find.valid.eq(top_half == n),
                        table.find.payload.place.word.eq(self.top),
                        table.find.payload.place.context.eq(self.of),
                        table.find.payload.remove.eq(0),
                    ]
                m.next = "MASK"
            with m.State("MASK"):
                for n, table in enumerate(words):
                    with m.If((top_half == n) & table.mask.valid):
                        m.d.comb += table.mask.ready.eq(1)
                        m.d.sync += [self.mask.eq(table.mask.payload), self.looked.eq(1)]
                        m.next = "IDLE"
        with m.If(self.looked):
            m.d.sync += self.looked.eq(0)
        gone = self.keep_valid & (self.keep == 0)
        for n, (table, write) in enumerate(zip(words, writes, strict=True)):
            m.d.comb += [
                table.keep.eq(self.keep),
                table.keep_valid.eq(self.keep_valid & (top_half == n)),
            ]
            with m.If(gone & (top_half == n)):
                m.d.comb += [
                    write.addr.eq(Cat(group, self.of)),
                    write.data.eq(0),
                    write.en.eq(1 << self.top[1:GROUP_BITS]),
                ]
        for c, (_, lost, change) in enumerate(self._changes):
            with m.If(gone & alone & (self.of == c)):
                m.d.comb += [change.eq(1), lost.bit_select(group, 1).eq(1)]


def _merged(reads: list[Any]) -> Value:
    """Return a group's words from the rows of both halves, which were read."""
    return Cat(reads[word.bit_count() & 1].data[word >> 1] for word in range(GROUP))
