"""The drain: reads the blocks of finished fibers out of the accumulator."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import BANK_SKEW, LANES, PAIR, POSITION_BITS, WIDE_BITS, ChipConfig
from ..queue import Queue
from ..register import payload_register
from ..tokens import RESULT_BLOCK, StageState
from ..unary import lowest_two, number, some_of
from .directory import WALKED_WORD
from .ends import END
from .entries import walk_layout
from .place import BANK_BITS, BANKS, WORD_BITS, context_bits, entry_layout
from .skew import is_skewed, swapped

ASKED = 3
"""Items whose entries are being read: enough to sustain one per cycle."""

AHEAD = 4
"""Items whose entries are read ahead: enough to sustain one per cycle if a read has to wait."""

PATIENCE = 2
"""Cycles for which the fill may block the drain's lane reads."""


class Drain(wiring.Component):
    """Walks complete passes, oldest first, and outputs their blocks, up to two per cycle.

    Words come from the directory one by one, their entries from the table two at a time, lanes from
    the lane banks. Two blocks with a lane or a bank in common leave one after the other, others as
    one item. An item waits for banks that the lookups or the fill use, for a bounded time.

    Members
    -------
    pairs : In(1)
        Blocks may leave two at a time. Constant.
    ready : In(1), end : In(END), next : Out(1)
        The next pass is complete; `Ends`. ``next``: its last word is taken.
    word : In(stream(WALKED_WORD))
        The words of all contexts; see `Directory`. A pass that is ``bare`` has none.
    walk : Out(stream), room : Out(1), walked, walk_entry : In
        `Entries`.
    banks, following, second, slot : Out, taken : In, value : In
        The banks to read, each from slot ``slot[following][second]``, selected by its bits; those
        that the fill has ``taken`` wait. The values of the others arrive in the next cycle.
    wanted : Out, urgent : Out(1)
        The banks to read once ``o`` is free. With ``urgent`` the fill does not access them. Both
        are valid early in the cycle.
    back : Out, array of 2, back_valid : Out(2)
        Slots that are free again; the second one only with the first.
    idle : Out(1)
        All passes that were taken are drained, and their slots are free.
    waiting : In(1)
        A pass has ended, and will have to be drained (only for ``state``).
    o : Out(stream(RESULT_BLOCK))
    state : Out(StageState)
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "pairs": In(1),
                "ready": In(1),
                "end": In(END),
                "next": Out(1),
                "word": In(stream.Signature(WALKED_WORD)),
                "walk": Out(stream.Signature(walk_layout(config))),
                "room": Out(1),
                "walked": In(1),
                "walk_entry": In(data.ArrayLayout(entry_layout(config), PAIR)),
                "banks": Out(LANES),
                "following": Out(LANES),
                "second": Out(LANES),
                "slot": Out(data.ArrayLayout(data.ArrayLayout(config.slot_bits, PAIR), 2)),
                "wanted": Out(LANES),
                "urgent": Out(1),
                "taken": In(LANES),
                "value": In(data.ArrayLayout(WIDE_BITS, LANES)),
                "back": Out(data.ArrayLayout(config.slot_bits, PAIR)),
                "back_valid": Out(PAIR),
                "idle": Out(1),
                "waiting": In(1),
                "o": Out(stream.Signature(RESULT_BLOCK)),
                "state": Out(StageState),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # a requested item: a block, and with `pair` the one of bank `second`; or none
        self._named_layout = data.StructLayout(
            {
                "coordinate": BANK_BITS + WORD_BITS,
                "second": BANK_BITS,
                "pair": 1,
                "none": 1,
                "last": 1,
                "fiber": POSITION_BITS,
                "final": 1,
            }
        )
        # the same, with its blocks' touched banks and slots; `shared`: the blocks of a pair have a
        # lane or a bank in common
        block = data.StructLayout(
            {"banks": LANES, "skewed": 1, "slot": self._config.slot_bits},
        )
        self._item_layout = data.StructLayout(
            {
                "block": data.ArrayLayout(block, PAIR),
                "shared": 1,
                "name": self._named_layout,
            }
        )
        m.submodules.items = items = Queue(self._item_layout, AHEAD)
        self._walking = Signal()  # an entry is to be read
        self._reading = Signal()  # an item's lanes are read
        self._walk(m, items)
        self._lanes(m, *self._split(m, items))
        return m

    def _walk(self, m: Module, items: Queue) -> None:
        """Walk the words, then their blocks, in order, and read the blocks' entries."""
        # the word whose blocks are walked, and its remaining blocks
        word = Signal(
            data.StructLayout(
                {
                    "word": WORD_BITS,
                    "last": 1,
                    "empty": 1,
                    "context": context_bits(self._config),
                    "of": END,
                }
            ),
            reset_less=True,
        )
        word_valid = Signal()
        left = Signal(BANKS)
        block_done = Signal()
        word_done = Signal()
        free = Signal()
        move = Signal()
        context = Signal(context_bits(self._config))
        bare = self.end.bare
        m.d.comb += [
            free.eq(self.ready & (~word_valid | word_done)),
            move.eq(free & (bare | self.word.valid)),
            self.word.ready.eq(free & ~bare),
            self.next.eq(move & (bare | self.word.payload.last)),
        ]
        m.d.sync += context.eq(context + (self.next & ~bare))

        first, next_ = lowest_two(m, left)
        _, two, three = some_of(m, left, PAIR + 1)
        pair = two & self.pairs
        second = Mux(self.pairs, next_, 0)
        last_block = Signal()
        m.d.comb += [
            last_block.eq(~Mux(self.pairs, three, two)),
            word_done.eq(block_done & last_block),
        ]
        with m.If(move):
            m.d.sync += [
                word.word.eq(self.word.payload.word),
                word.last.eq(bare | self.word.payload.last),
                word.empty.eq(bare | self.word.payload.empty),
                word.context.eq(context),
                word.of.eq(self.end),
                left.eq(Mux(bare, 0, self.word.payload.mask)),
            ]
        with m.Elif(block_done):
            m.d.sync += left.eq(left & ~first & ~second)
        m.d.sync += word_valid.eq(move | (word_valid & ~word_done))

        # the blocks whose entries are to be read
        m.submodules.asked = asked = Queue(self._named_layout, ASKED)
        walk = self.walk.payload
        block = asked.i.payload
        ends = word.last & last_block
        m.d.comb += [
            block_done.eq(self.walk.valid & self.walk.ready),
            self.walk.valid.eq(word_valid & asked.i.ready),
            walk.place.bank.eq(number(first, BANK_BITS)),
            walk.place.word.eq(word.word),
            walk.place.context.eq(word.context),
            walk.second.eq(number(next_, BANK_BITS)),
            walk.pair.eq(pair),
            walk.none.eq(word.empty),
            walk.closes.eq(ends & ~word.of.bare),
            asked.i.valid.eq(word_valid & self.walk.ready),
            block.coordinate.eq(Cat(number(first, BANK_BITS), word.word)),
            block.second.eq(number(next_, BANK_BITS)),
            block.pair.eq(pair),
            block.none.eq(word.empty),
            block.last.eq(ends & ~word.of.again),
            block.final.eq(ends & ~word.of.again & word.of.final),
            block.fiber.eq(word.of.fiber),
            asked.o.ready.eq(self.walked),
        ]

        # If the fiber continues in a further pass, no item marks the end of this pass.
        going = asked.o.payload
        touched = [
            Mux(going.none, 0, self.walk_entry[0].touched),
            Mux(going.pair, self.walk_entry[1].touched, 0),
        ]
        item = items.i.payload
        for n, block in enumerate((going.coordinate, second_block(going))):
            m.d.comb += [
                item.block[n].slot.eq(self.walk_entry[n].slot),
                item.block[n].skewed.eq(is_skewed(block)),
                item.block[n].banks.eq(swapped(touched[n], item.block[n].skewed)),
            ]
        m.d.comb += [
            self.room.eq(items.i.ready),
            self._walking.eq(asked.o.valid & self.room),
            items.i.valid.eq(self.walked & ~(going.none & ~going.last)),
            item.name.eq(going),
            item.shared.eq(
                (touched[0] & touched[1]).any() | (item.block[0].banks & item.block[1].banks).any()
            ),
            self.idle.eq(~word_valid & ~asked.o.valid & items.empty & ~self._reading),
        ]

    def _split(self, m: Module, items: Queue) -> tuple[Signal, Value, Signal]:
        """Split pairs whose blocks share a lane or bank; return the item, its valid and ready."""
        whole = items.o.payload
        item = Signal(self._item_layout)
        ready = Signal()
        upper = Signal()  # of such a pair, the second block is next
        m.d.comb += [item.eq(whole), items.o.ready.eq(ready & (~whole.shared | upper))]
        with m.If(whole.shared):
            m.d.comb += [item.block[1].banks.eq(0), item.name.pair.eq(0)]
            with m.If(upper):
                m.d.comb += [
                    item.block[0].eq(whole.block[1]),
                    item.name.coordinate[:BANK_BITS].eq(whole.name.second),
                ]
            with m.Else():
                m.d.comb += [item.name.last.eq(0), item.name.final.eq(0)]
        with m.If(items.o.valid & ready):
            m.d.sync += upper.eq(whole.shared & ~upper)
        return item, items.o.valid, ready

    def _lanes(self, m: Module, following: Any, following_valid: Value, moves: Signal) -> None:
        """Read the items' lanes, from the banks that are free."""
        # Two items are read at once, so that a bank conflict rarely costs a cycle. The following
        # item does not read banks that the head has: values that arrive early share one set of
        # registers.
        reading = Signal(self._item_layout, reset_less=True)
        reading_valid = self._reading
        begun = Signal(data.ArrayLayout(LANES, 2))  # banks that were read, of either
        left = Signal(data.ArrayLayout(LANES, 2))  # and those that were not yet
        got = Signal(LANES)
        whole = Signal()

        # the item whose last values arrive in this cycle, if it is valid
        arrived = Signal(LANES)
        head = Signal(self._item_layout, reset_less=True)
        head_valid = Signal()
        stuck = Signal()

        def touched(item: Any) -> Value:
            return item.block[0].banks | item.block[1].banks

        m.d.comb += [
            stuck.eq(head_valid & self.o.valid & ~self.o.ready),
            left[0].eq(Mux(reading_valid, touched(reading) & ~begun[0], 0)),
            left[1].eq(
                Mux(
                    reading_valid & following_valid,
                    touched(following) & ~begun[1] & ~touched(reading),
                    0,
                )
            ),
            # The fill must not depend on `stuck`, which arrives late in the cycle.
            self.wanted.eq(left[0] | left[1]),
            self.banks.eq(Mux(stuck, 0, self.wanted)),
            self.following.eq(left[1]),
            self.second.eq(
                (left[1] & following.block[1].banks) | (~left[1] & reading.block[1].banks)
            ),
            got.eq(self.banks & ~self.taken),
            whole.eq(reading_valid & ~stuck & ~(left[0] & self.taken).any()),
            moves.eq(whole | ~reading_valid),
            self.back_valid[0].eq(whole & ~reading.name.none),
            self.back_valid[1].eq(whole & reading.name.pair),
        ]
        for n in range(PAIR):
            m.d.comb += [
                self.slot[0][n].eq(reading.block[n].slot),
                self.slot[1][n].eq(following.block[n].slot),
                self.back[n].eq(reading.block[n].slot),
            ]
        with m.If(moves & following_valid):
            m.d.sync += reading.eq(following)
        with m.If(moves):
            m.d.sync += [
                reading_valid.eq(following_valid),
                begun[0].eq(begun[1] | (got & left[1])),
                begun[1].eq(0),
            ]
        with m.Else():
            m.d.sync += [
                begun[0].eq(begun[0] | (got & left[0])),
                begun[1].eq(begun[1] | (got & left[1])),
            ]

        patience = Signal(range(PATIENCE + 1))
        m.d.comb += self.urgent.eq(patience == PATIENCE)
        with m.If(whole):
            m.d.sync += patience.eq(0)
        with m.Elif(left[0].any() & ~stuck & ~self.urgent):
            m.d.sync += patience.eq(patience + 1)

        with m.If(~stuck):
            m.d.sync += head_valid.eq(whole)
        with m.If(~stuck & reading_valid):
            # `whole` arrives late, and what is loaded in vain does not matter
            m.d.sync += head.eq(reading)
        m.d.sync += arrived.eq(got)

        out = payload_register(m, self.o)
        free = ~self.o.valid | self.o.ready
        with m.If(free):
            m.d.sync += self.o.valid.eq(head_valid)
        with m.If(free & head_valid):
            m.d.sync += [
                out.coordinate.eq(Mux(head.name.none, 0, head.name.coordinate)),
                out.mask.eq(swapped(head.block[0].banks, head.block[0].skewed)),
                out.second.coordinate.eq(Mux(head.name.pair, second_block(head.name), 0)),
                out.second.mask.eq(swapped(head.block[1].banks, head.block[1].skewed)),
                out.fiber.eq(head.name.fiber),
                out.last.eq(head.name.last),
                out.final.eq(head.name.final),
            ]
        values = []
        for bank in range(LANES):
            early = Signal(WIDE_BITS, name=f"early_{bank}", reset_less=True)
            values.append(Mux(arrived[bank], self.value[bank], early))
            with m.If(arrived[bank]):
                m.d.sync += early.eq(self.value[bank])
        # From banks to lanes: a lane is that of its own bank, or of a skewed block's.
        own, other = (
            reduce(or_, (Mux(block.skewed == skewed, block.banks, 0) for block in head.block))
            for skewed in (0, 1)
        )
        for lane in range(LANES):
            swap = lane ^ BANK_SKEW
            value = Mux(own[lane], values[lane], 0) | Mux(other[swap], values[swap], 0)
            with m.If(free & head_valid):
                m.d.sync += out.value[lane].eq(value)

        busy = whole | got.any()
        m.d.comb += self.state.eq(
            Mux(
                busy,
                StageState.BUSY,
                Mux(
                    reading_valid | self._walking,
                    StageState.STALLED,
                    Mux(self.waiting, StageState.STARVED, StageState.IDLE),
                ),
            )
        )


def second_block(name: data.View) -> Value:
    """Return the coordinate of an item's second block."""
    return Cat(name.second, name.coordinate[BANK_BITS:])
