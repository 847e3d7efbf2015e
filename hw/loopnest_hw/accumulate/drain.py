"""How finished fibers leave the accumulator."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, POSITION_BITS, WIDE_BITS, ChipConfig
from ..queue import Queue
from ..tokens import RESULT_BLOCK, StageState
from .directory import word_layout
from .entries import walk_layout
from .place import BANK_BITS, BANKS, WORD_BITS, context_pointer, entry_layout, place_layout
from .priority import at_least, lowest_bit, number

AHEAD = 4
"""Blocks whose entries are read ahead: enough for one a cycle where a read has to wait."""

PATIENCE = 2
"""Cycles for which the fill may keep lanes from the drain."""


class Drain(wiring.Component):
    """Walks complete contexts, oldest first, and puts out their blocks: up to one a cycle.

    Word by word from the directory, block by block from the table, lanes from the lane banks. A
    block waits for banks that the lookups or the fill use, but not for ever.

    Members
    -------
    ready : In(1)
        The context ``context`` : Out, the next to drain, is complete.
    base, again, fiber, ends_nest : In
        Of that context; `Table` and `Fill` tell.
    begin, word, take, mask
        `Directory`.
    walk : Out(stream), room : Out(1), walked, walk_entry : In
        `Entries`.
    short : Out(1)
        Few entries are read ahead. From a register.
    lanes, following, slot : Out, taken : In, value : In
        The lanes to read, of ``slot[1]`` where ``following``, else of ``slot[0]``; those that the
        fill has ``taken`` wait. The others' values come in the next cycle.
    wanted : Out, urgent : Out(1)
        The lanes to read once ``o`` is free. With ``urgent`` the fill leaves them alone. Both come
        early in a cycle.
    back : Out, back_valid : Out(1)
        A slot that was read for the last time.
    idle : Out(1)
        Nothing is left of the contexts before ``context``, their slots are back.
    waiting : In(1)
        There are contexts to drain some time (only for ``state``).
    o : Out(stream(RESULT_BLOCK))
    state : Out(StageState)
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "context": Out(context_pointer(config)),
                "ready": In(1),
                "base": In(WORD_BITS),
                "again": In(1),
                "fiber": In(POSITION_BITS),
                "ends_nest": In(1),
                "begin": Out(1),
                "word": In(word_layout(config)),
                "take": Out(1),
                "mask": In(BANKS),
                "walk": Out(stream.Signature(walk_layout(config))),
                "room": Out(1),
                "walked": In(1),
                "short": Out(1),
                "walk_entry": In(entry_layout(config)),
                "lanes": Out(LANES),
                "following": Out(LANES),
                "slot": Out(data.ArrayLayout(config.slot_bits, 2)),
                "wanted": Out(LANES),
                "urgent": Out(1),
                "taken": In(LANES),
                "value": In(data.ArrayLayout(WIDE_BITS, LANES)),
                "back": Out(config.slot_bits),
                "back_valid": Out(1),
                "idle": Out(1),
                "waiting": In(1),
                "o": Out(stream.Signature(RESULT_BLOCK)),
                "state": Out(StageState),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._fiber_layout = data.StructLayout({"fiber": POSITION_BITS, "final": 1, "again": 1})
        self._named_layout = data.StructLayout(
            {
                "coordinate": BANK_BITS + WORD_BITS,
                "none": 1,
                "last": 1,
                "fiber": POSITION_BITS,
                "final": 1,
            }
        )
        self._block_layout = data.StructLayout(
            {"entry": entry_layout(self._config), "name": self._named_layout}
        )
        m.submodules.blocks = blocks = Queue(self._block_layout, AHEAD)
        self._walking = Signal()  # an entry is to be read
        self._reading = Signal()  # a block's lanes are read
        self._walk(m, blocks)
        self._lanes(m, blocks)
        return m

    def _walk(self, m: Module, blocks: Queue) -> None:
        """Words, then blocks, in order, and their entries."""
        place = place_layout(self._config)
        word_state = data.StructLayout(
            {
                "word": word_layout(self._config),
                "context": place.members["context"],
                "base": WORD_BITS,
                "of": self._fiber_layout,
            }
        )
        # the word whose mask is being read
        fetched = Signal(word_state)
        fetched_valid = Signal()
        # the word whose blocks are walked, and what is left of it
        word = Signal(word_state)
        word_valid = Signal()
        left = Signal(BANKS)

        # the context that is walked: its words are at hand in the directory
        walking = Signal()
        here = Signal(
            data.StructLayout(
                {
                    "context": place.members["context"],
                    "base": WORD_BITS,
                    "of": self._fiber_layout,
                }
            )
        )

        block_done = Signal()
        word_done = Signal()
        move = Signal()
        m.d.comb += [
            move.eq(fetched_valid & (~word_valid | word_done)),
            self.take.eq(walking & (~fetched_valid | move)),
            self.begin.eq(self.ready & (~walking | (self.take & self.word.last))),
        ]
        with m.If(self.take):
            m.d.sync += [
                fetched.word.eq(self.word),
                fetched.context.eq(here.context),
                fetched.base.eq(here.base),
                fetched.of.eq(here.of),
            ]
        with m.If(self.begin):
            m.d.sync += [
                self.context.eq(self.context + 1),
                walking.eq(1),
                here.context.eq(self.context),
                here.base.eq(self.base),
                here.of.fiber.eq(self.fiber),
                here.of.final.eq(self.ends_nest),
                here.of.again.eq(self.again),
            ]
        with m.Elif(self.take & self.word.last):
            m.d.sync += walking.eq(0)
        m.d.sync += fetched_valid.eq(self.take | (fetched_valid & ~move))

        first = lowest_bit(m, left)
        _, more = at_least(m, left, 2)
        last_block = Signal()
        m.d.comb += [
            last_block.eq(~more),
            word_done.eq(block_done & last_block),
        ]
        with m.If(move):
            m.d.sync += [word.eq(fetched), left.eq(Mux(fetched.word.empty, 0, self.mask))]
        with m.Elif(block_done):
            m.d.sync += left.eq(left & ~first)
        m.d.sync += word_valid.eq(move | (word_valid & ~word_done))

        # the blocks whose entries are to be read
        m.submodules.asked = asked = Queue(self._named_layout, 2)
        walk = self.walk.payload
        block = asked.i.payload
        closes = word.word.last & last_block
        m.d.comb += [
            block_done.eq(self.walk.valid & self.walk.ready),
            self.walk.valid.eq(word_valid & asked.i.ready),
            walk.place.bank.eq(number(first, BANK_BITS)),
            walk.place.word.eq(word.word.word),
            walk.place.context.eq(word.context),
            walk.none.eq(word.word.empty),
            walk.closes.eq(closes),
            asked.i.valid.eq(word_valid & self.walk.ready),
            block.coordinate.eq(
                Cat(number(first, BANK_BITS), (word.word.word + word.base)[:WORD_BITS])
            ),
            block.none.eq(word.word.empty),
            block.last.eq(closes & ~word.of.again),
            block.final.eq(closes & ~word.of.again & word.of.final),
            block.fiber.eq(word.of.fiber),
            asked.o.ready.eq(self.walked),
        ]

        # Room is kept for every entry that is being read.
        room = Signal(range(AHEAD + 1), init=AHEAD)
        read = Signal(self._named_layout)
        read_valid = Signal()
        # Where a fiber goes on in a further pass, nothing tells that this one ended.
        going = asked.o.payload
        put = self.walked & ~(going.none & ~going.last)
        m.d.sync += [
            read_valid.eq(put),
            read.eq(going),
            room.eq(room - put + (blocks.o.valid & blocks.o.ready)),
        ]
        m.d.comb += [
            self.room.eq(room != 0),
            self._walking.eq(asked.o.valid & self.room),
            self.short.eq(room >= AHEAD - 2),
            blocks.i.valid.eq(read_valid),
            blocks.i.payload.name.eq(read),
            blocks.i.payload.entry.eq(Mux(read.none, 0, self.walk_entry.as_value())),
            self.idle.eq(
                ~walking
                & ~fetched_valid
                & ~word_valid
                & ~asked.o.valid
                & (room == AHEAD)
                & ~self._reading
            ),
        ]

    def _lanes(self, m: Module, blocks: Queue) -> None:
        """The blocks' lanes, from whichever banks are free."""
        # Two blocks are read at once, so that a bank in use seldom costs a cycle. The following one
        # leaves the head's lanes alone: values that came early wait in one place for both.
        head_block = Signal(self._block_layout)
        head_block_valid = self._reading
        following = blocks.o.payload
        begun = Signal(data.ArrayLayout(LANES, 2))  # lanes that were read, of either
        left = Signal(data.ArrayLayout(LANES, 2))  # and those that were not yet
        got = Signal(LANES)
        whole = Signal()
        moves = Signal()

        # the block whose last lanes come in this cycle, if it is valid
        arrived = Signal(LANES)
        head = Signal(self._block_layout)
        head_valid = Signal()
        stuck = Signal()
        m.d.comb += [
            stuck.eq(head_valid & self.o.valid & ~self.o.ready),
            left[0].eq(Mux(head_block_valid, head_block.entry.touched & ~begun[0], 0)),
            left[1].eq(
                Mux(
                    head_block_valid & blocks.o.valid,
                    following.entry.touched & ~begun[1] & ~head_block.entry.touched,
                    0,
                )
            ),
            # The fill must not wait for `stuck`, which comes late.
            self.wanted.eq(left[0] | left[1]),
            self.lanes.eq(Mux(stuck, 0, self.wanted)),
            self.following.eq(left[1]),
            self.slot[0].eq(head_block.entry.slot),
            self.slot[1].eq(following.entry.slot),
            got.eq(self.lanes & ~self.taken),
            whole.eq(head_block_valid & ~stuck & ~(left[0] & self.taken).any()),
            moves.eq(whole | ~head_block_valid),
            blocks.o.ready.eq(moves),
            self.back.eq(head_block.entry.slot),
            self.back_valid.eq(whole & ~head_block.name.none),
        ]
        with m.If(moves):
            m.d.sync += [
                head_block.eq(following),
                head_block_valid.eq(blocks.o.valid),
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
            m.d.sync += [head.eq(head_block), head_valid.eq(whole)]
        m.d.sync += arrived.eq(got)

        out = self.o.payload
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(head_valid),
                out.coordinate.eq(Mux(head.name.none, 0, head.name.coordinate)),
                out.mask.eq(head.entry.touched),
                out.fiber.eq(head.name.fiber),
                out.last.eq(head.name.last),
                out.final.eq(head.name.final),
            ]
        for lane in range(LANES):
            early = Signal(WIDE_BITS, name=f"early_{lane}")
            value = Mux(arrived[lane], self.value[lane], early)
            with m.If(arrived[lane]):
                m.d.sync += early.eq(self.value[lane])
            with m.If(~self.o.valid | self.o.ready):
                m.d.sync += out.value[lane].eq(Mux(head.entry.touched[lane], value, 0))

        busy = whole | got.any()
        m.d.comb += self.state.eq(
            Mux(
                busy,
                StageState.BUSY,
                Mux(
                    head_block_valid | self._walking,
                    StageState.STALLED,
                    Mux(self.waiting, StageState.STARVED, StageState.IDLE),
                ),
            )
        )
