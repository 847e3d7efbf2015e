"""The accumulator's block table: lookups, slot allocation and passes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, ChipConfig
from ..queue import Queue
from ..tokens import PAIR, found, lookup
from .entries import LOW_WORDS
from .passes import Passes
from .place import (
    BANK_BITS,
    BANKS,
    BLOCK,
    WORD_BITS,
    context_pointer,
    entry_layout,
    place_layout,
)

RETIRED = data.StructLayout({"again": 1})
"""A row-0 token is done; ``again``: it has to be replayed."""


def asked_layout(config: ChipConfig) -> data.StructLayout:
    """A lookup in the table's pipeline.

    ``inside``: the block is at or above the pass's lower bound and within its window; ``above``: it
    is beyond the window. ``part``: the lookup's second block follows separately.
    """
    asked_block = data.StructLayout({"block": BLOCK, "inside": 1, "above": 1, "mask": LANES})
    return data.StructLayout(
        {
            "block": data.ArrayLayout(asked_block, PAIR),
            "part": 1,
            "end": 1,
            "retire": 1,
            "stale": 1,
            "context": context_pointer(config),
        }
    )


class Table(wiring.Component):
    """Answers lookups in order, one per cycle, 4 cycles later.

    A lookup whose blocks are in one bank takes two cycles. A lookup waits for a context, for slots,
    and while a block is evicted.

    `Passes` has the bounds of the blocks that are kept.

    Members
    -------
    lookup : In(stream), found : Out(stream)
        A lookup's blocks ascend.
    retired : Out(stream(RETIRED))
        For each lookup with ``retire`` (and for the end of a pass that is not the last) that is not
        stale.
    replayable : In(1)
        Each result fiber belongs to one row-0 token.
    error : Out(1)
        A fiber that cannot be replayed has lost blocks; sticky.
    context : Out
        Pointer of the context whose lookup is decided next.
    freed : In
        Pointer of the oldest context in use.
    ended : Out(1), base : Out, again : Out(1)
        The context's lookups are done. Its words count from ``base``; ``again``: it is not the
        fiber's last pass.
    short : Out(1), candidate : Out
        The next lookup needs more slots than are free, block ``candidate`` is the first one
        without, and all slots that could be freed belong to its own context (``settled`` : In(1)
        says that all older contexts are drained). Waits for ``bounded`` : In(1), with ``bound`` :
        In, the lowest evicted block.
    read, advance, entry, refused, write, swept, low_swept
        `Entries`.
    slot, some, take, free
        `FreeList`.
    put, room
        `Directory`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        entry = entry_layout(config)
        block = BANK_BITS + place.members["word"]
        pointer = context_pointer(config)
        place_enable = data.StructLayout({"enable": 1, "place": place})
        super().__init__(
            {
                "lookup": In(stream.Signature(lookup(config))),
                "found": Out(stream.Signature(found(config))),
                "retired": Out(stream.Signature(RETIRED)),
                "replayable": In(1),
                "error": Out(1),
                "context": Out(pointer),
                "freed": In(pointer),
                "ended": Out(1),
                "base": Out(WORD_BITS),
                "again": Out(1),
                "short": Out(1),
                "candidate": Out(block),
                "settled": In(1),
                "bounded": In(1),
                "bound": In(block),
                "read": Out(data.ArrayLayout(place_enable, PAIR)),
                "entry": In(data.ArrayLayout(entry, PAIR)),
                "advance": Out(1),
                "refused": In(1),
                "write": Out(
                    data.ArrayLayout(
                        data.StructLayout({"enable": 1, "place": place, "entry": entry}), PAIR
                    )
                ),
                "swept": In(range(config.fibers_in_flight + 1)),
                "low_swept": In(1),
                "slot": In(data.ArrayLayout(config.slot_bits, PAIR)),
                "some": In(PAIR),
                "take": Out(range(PAIR + 1)),
                "free": In(range(config.slots + 1)),
                "put": Out(data.ArrayLayout(place_enable, PAIR)),
                "room": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        asked = asked_layout(self._config)
        m.submodules.passes = self._passes = Passes(self._config)
        self._replay = self._passes.replay
        self._advance = self.advance
        # A lookup passes three registers. Its entries are read at the end of the first and are
        # available in the second; the third decides its outcome.
        self._reading = Signal(asked)
        self._reading_valid = Signal()
        self._answered = Signal(asked)
        self._answered_valid = Signal()
        self._deciding = Signal(asked)
        self._deciding_valid = Signal()

        self._accept(m)
        self._read(m)
        self._match(m)
        self._decide(m)
        return m

    def _place(self, context: Value, block: Any) -> Value:
        """Return the place of a block inside the window."""
        place = place_layout(self._config)
        return Cat(block.bank, block.word[: place.members["word"]], context[:-1])

    def _accept(self, m: Module) -> None:
        """Accept lookups; one whose blocks share a bank enters as two."""
        config = self._config
        words = config.window // BANKS
        item = self.lookup.payload
        reading = self._reading
        base = self._passes.lower
        context = Signal(context_pointer(config))
        # An end is in the pipeline after which the lower bound may change.
        settling = Signal()
        second = Signal()
        stale = (item.epoch != self._passes.epoch) | self._replay
        clash = (item.count == PAIR) & (item.block[0][:BANK_BITS] == item.block[1][:BANK_BITS])
        part = Signal()
        in_use = Signal(len(context))
        low = Signal(PAIR)  # blocks of low words; with a small window there are no others
        is_swept = Signal()
        usable = Signal()
        accept = Signal()
        m.d.comb += [
            part.eq(clash & ~second),
            in_use.eq(context - self.freed),
            is_swept.eq((context[:-1] < self.swept) | (self.low_swept & low.all())),
            usable.eq(~in_use[-1] & is_swept & ~settling & ~self._passes.moving),
            accept.eq(self.lookup.valid & (stale | usable) & self._advance),
            self.lookup.ready.eq((stale | usable) & self._advance & ~part),
        ]
        with m.If(self._advance):
            m.d.sync += [
                self._reading_valid.eq(accept),
                reading.part.eq(part),
                reading.end.eq(item.end & ~part),
                reading.retire.eq(item.retire & ~part),
                reading.stale.eq(stale),
                reading.context.eq(context),
            ]
        for n in range(PAIR):
            block = data.View(BLOCK, item.block[n])
            word = Signal(WORD_BITS + 1, name=f"word_{n}")
            present = Signal(name=f"present_{n}")
            m.d.comb += low[n].eq((item.count <= n) | (block.word < LOW_WORDS))
            below = word[-1] | ((word == 0) & (block.bank < base.bank))
            beyond = word[:-1] >= words
            m.d.comb += [
                word.eq(block.word - base.word),
                present.eq((item.count > n) & ~(second if n == 0 else part)),
            ]
            with m.If(self._advance):
                m.d.sync += [
                    reading.block[n].block.bank.eq(block.bank),
                    reading.block[n].block.word.eq(word),
                    reading.block[n].inside.eq(present & ~below & ~beyond),
                    reading.block[n].above.eq(present & ~below & beyond),
                    reading.block[n].mask.eq(item.mask[n]),
                ]
        with m.If(accept):
            m.d.sync += second.eq(part)
            with m.If(~stale & item.end & ~part):
                m.d.sync += [context.eq(context + 1), settling.eq(self._passes.further)]
        with m.If(self.ended):
            m.d.sync += settling.eq(0)
        with m.If(self._replay):
            # what followed was stale
            m.d.sync += context.eq(self.context + 1)

    def _read(self, m: Module) -> None:
        """Read the entries."""
        reading = self._reading
        for n in range(PAIR):
            block = reading.block[n]
            m.d.comb += [
                self.read[n].enable.eq(self._reading_valid & block.inside),
                self.read[n].place.eq(self._place(reading.context, block.block)),
            ]
        with m.If(self._advance):
            m.d.sync += [
                self._answered.eq(reading),
                self._answered.stale.eq(reading.stale | self._replay),
                self._answered_valid.eq(self._reading_valid),
            ]

    def _match(self, m: Module) -> None:
        """Take the entries, corrected by the writes that were decided since."""
        config = self._config
        entry = entry_layout(config)
        place = place_layout(config)
        answered = self._answered
        deciding = self._deciding
        # Read data is valid for one cycle only; `held` keeps it while the lookup waits.
        held = Signal()
        kept = Signal(data.ArrayLayout(entry, PAIR))
        written = Signal.like(self.write)
        m.d.sync += [
            written.eq(self.write),
            held.eq(self._answered_valid & ~self._advance),
        ]

        self._entry = [Signal(entry, name=f"old_{n}") for n in range(PAIR)]
        self._keep = Signal(PAIR)
        self._drop = Signal(PAIR)
        bounded = self._passes.upper_valid & (self._passes.upper_context == answered.context)
        for n in range(PAIR):
            block = answered.block[n]
            here = Signal(place, name=f"here_{n}")
            past = Signal(entry, name=f"past_{n}")
            now = Signal(entry, name=f"now_{n}")
            m.d.comb += [
                here.eq(self._place(answered.context, block.block)),
                past.eq(Mux(held, kept[n].as_value(), self.entry[n].as_value())),
                now.eq(past),
            ]
            for write in written:
                with m.If(~held & write.enable & (write.place.as_value() == here.as_value())):
                    m.d.comb += past.eq(write.entry)
            m.d.sync += kept[n].eq(past)
            for write in self.write:
                with m.If(write.enable & (write.place.as_value() == here.as_value())):
                    m.d.comb += now.eq(write.entry)

            fits = ~(bounded & self._passes.beyond(block.block))
            stale = answered.stale | self._replay
            with m.If(self._advance):
                m.d.sync += [
                    self._entry[n].eq(Mux(block.inside, now.as_value(), 0)),
                    self._keep[n].eq(block.inside & fits & ~stale),
                    self._drop[n].eq((block.above | (block.inside & ~fits)) & ~stale),
                ]
        with m.If(self._advance):
            m.d.sync += [
                deciding.eq(answered),
                deciding.stale.eq(answered.stale | self._replay),
                self._deciding_valid.eq(self._answered_valid),
            ]

    def _decide(self, m: Module) -> None:
        """Allocate slots, write the entries, and answer the lookup."""
        config = self._config
        deciding = self._deciding
        m.submodules.answers = answers = Queue(found(config), 2)
        m.submodules.replies = replies = Queue(RETIRED, 2)
        wiring.connect(m, answers.o, wiring.flipped(self.found))
        wiring.connect(m, replies.o, wiring.flipped(self.retired))

        new = Signal(PAIR)
        needed = Signal(range(PAIR + 1))
        enough = Signal()
        rebounding = Signal()
        go = Signal()
        for n in range(PAIR):
            m.d.comb += new[n].eq(self._keep[n] & ~self._entry[n].touched.any())
        m.d.comb += [
            needed.eq(new[0] + new[1]),
            enough.eq(~new.any() | (self.room & Mux(new.all(), self.some[1], self.some[0]))),
            go.eq(
                self._deciding_valid
                & enough
                & ~rebounding
                & ~self.refused
                & answers.i.ready
                & replies.i.ready
            ),
            self._advance.eq(~self.refused & (~self._deciding_valid | go)),
            self.take.eq(Mux(go, needed, 0)),
            self.context.eq(deciding.context),
        ]

        # The answer. The first half of a lookup that entered as two waits for the other.
        answer = Signal(found(config))
        half = Signal(data.StructLayout({"keep": 1, "slot": config.slot_bits, "first": LANES}))
        has_half = Signal()
        for n in range(PAIR):
            block = deciding.block[n]
            old = self._entry[n]
            place = self._place(deciding.context, block.block)
            slot = Signal(config.slot_bits, name=f"slot_{n}")
            first = Signal(LANES, name=f"first_{n}")
            given = Mux(new[0], self.slot[1], self.slot[0]) if n else self.slot[0]
            m.d.comb += [
                slot.eq(Mux(new[n], given, old.slot)),
                first.eq(Mux(self._keep[n], block.mask & ~old.touched, 0)),
                self.write[n].enable.eq(go & first.any()),
                self.write[n].place.eq(place),
                self.write[n].entry.touched.eq(old.touched | block.mask),
                self.write[n].entry.slot.eq(slot),
                self.put[n].enable.eq(go & new[n]),
                self.put[n].place.eq(place),
                answer.keep[n].eq(self._keep[n]),
                answer.slot[n].eq(slot),
                answer.first[n].eq(first),
            ]
        m.d.comb += [
            answers.i.valid.eq(go & ~deciding.part),
            answers.i.payload.eq(answer),
            answers.i.payload.stale.eq(deciding.stale),
        ]
        with m.If(go):
            m.d.sync += [
                has_half.eq(deciding.part),
                half.keep.eq(answer.keep[0]),
                half.slot.eq(answer.slot[0]),
                half.first.eq(answer.first[0]),
            ]
        with m.If(has_half):
            m.d.comb += [
                answers.i.payload.keep[0].eq(half.keep),
                answers.i.payload.slot[0].eq(half.slot),
                answers.i.payload.first[0].eq(half.first),
            ]

        self._pass(m, go, replies)
        self._give_way(m, new, needed, rebounding)

    def _pass(self, m: Module, go: Value, replies: Queue) -> None:
        """Decide at a fiber's end whether a further pass follows."""
        deciding = self._deciding
        passes = self._passes
        m.d.comb += [
            passes.go.eq(go),
            passes.drop.eq(self._drop),
            passes.end.eq(deciding.end & ~deciding.stale),
            passes.context.eq(deciding.context),
            passes.replayable.eq(self.replayable),
            passes.bounded.eq(self.bounded),
            passes.bound.eq(self.bound),
            self.error.eq(passes.error),
            self.ended.eq(go & deciding.end & ~deciding.stale),
            self.base.eq(passes.lower.word),
            self.again.eq(passes.replay),
            replies.i.valid.eq(go & ~deciding.stale & (deciding.retire | passes.replay)),
            replies.i.payload.again.eq(passes.replay),
        ]
        for n in range(PAIR):
            m.d.comb += passes.block[n].eq(deciding.block[n].block)

    def _give_way(self, m: Module, new: Value, needed: Value, rebounding: Signal) -> None:
        """Slots have run out, and no other context can free one: lower the upper bound."""
        deciding = self._deciding
        asking = Signal()
        compare = Signal()
        # the first block without a slot
        second = new[1] & ~(new[0] & (self.free == 0))
        block = Mux(second, deciding.block[1].block.as_value(), deciding.block[0].block.as_value())
        m.d.comb += [
            rebounding.eq(asking),
            self.short.eq(asking & ~self.bounded & ~compare),
            self.candidate.eq(block),
        ]
        alone = (self.freed == self.context) & self.settled
        with m.If(self._deciding_valid & ~asking & (self.free < needed) & alone):
            m.d.sync += asking.eq(1)
        # one more cycle, to compare the waiting lookup with the new bound
        m.d.sync += compare.eq(self.bounded)
        with m.If(compare):
            m.d.sync += asking.eq(0)
            for n in range(PAIR):
                out = self._keep[n] & self._passes.beyond(deciding.block[n].block)
                m.d.sync += [
                    self._keep[n].eq(self._keep[n] & ~out),
                    self._drop[n].eq(self._drop[n] | out),
                ]
