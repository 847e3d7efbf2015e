"""The step former: selects up to M lanes per cycle from the two blocks at the head."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..accumulate.skew import swapped
from ..config import LANES, PAIR, ChipConfig
from ..register import payload_register
from ..unary import at_least, one_of
from .layouts import fiber_layout, formed, located_block, placed

WINDOW = 5
"""Blocks in the window: two that a step takes from, two that arrive, and one to avoid bubbles."""

ITEMS = 4
"""Items kept until their last step has left."""

WAITING = data.StructLayout(
    {"lanes": LANES, "skewed": 1, "last": 1, "frees": 1, "where": ITEMS * PAIR}
)
"""A block in the window: its remaining lanes, and where the rest of the block is stored.

``skewed``: its lanes' banks are not their own. ``last`` ends the fiber, ``frees`` is set in an
item's last block. ``where`` is one-hot.
"""


class Former(wiring.Component):
    """Cuts leaf fibers into steps.

    A step takes the head block's lowest lanes up to M; if that empties the block, it fills up from
    the next block of the same fiber, lowest lane first, and waits for that block if it has not
    arrived. With ``exclusive`` (AXPY) it stops at a bank that it already took; a block's lane l is
    in bank ``l ^ index``. With ``single`` (SCATTER) it stops at one lane. A fiber without lanes
    makes one step without lanes.

    One step per cycle, three cycles after its blocks arrive. How lanes are grouped depends on the
    blocks alone, not on timing. Golden function: `loopnest_sim.model.form.form`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(placed(config))),
                "exclusive": In(1),
                "single": In(1),
                "o": Out(stream.Signature(formed(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        # The lanes of the steps are determined first; the wide rest of a block is selected
        # afterwards.
        cut = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "take": data.ArrayLayout(LANES, PAIR),
                    "where": data.ArrayLayout(ITEMS * PAIR, PAIR),
                    "last": 1,
                    "frees": range(PAIR + 1),
                }
            )
        )
        advance = Signal()
        put = Signal()
        put_at = Signal(ITEMS, init=1)
        kept = Signal(range(ITEMS + 1))
        window_room = Signal()
        item_room = Signal()
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            item_room.eq(kept != ITEMS),
            self.i.ready.eq(item_room & window_room),
            put.eq(self.i.valid & self.i.ready),
        ]
        m.d.sync += kept.eq(kept + put - Mux(advance, cut.frees, 0))
        with m.If(put):
            m.d.sync += put_at.eq(put_at.rotate_left(1))

        self._cut(m, advance, put, put_at, window_room, cut)

        # Keep
        item = self.i.payload
        blocks = [
            Signal(located_block(config), name=f"block_{n}", reset_less=True)
            for n in range(ITEMS * PAIR)
        ]
        fibers = [
            Signal(fiber_layout(config), name=f"fiber_{n}", reset_less=True) for n in range(ITEMS)
        ]
        for k, fiber in enumerate(fibers):
            # The contents of a free place do not matter.
            with m.If(put_at[k] & item_room & self.i.valid):
                m.d.sync += fiber.eq(item.fiber)
                for n in range(PAIR):
                    m.d.sync += [
                        blocks[PAIR * k + n][name].eq(item.block[n][name])
                        for name in located_block(config).members
                    ]

        # Select
        selected = Signal(self.o.payload.block.shape())
        fiber = Signal(fiber_layout(config))
        of_item = (cut.where[0][PAIR * k : PAIR * (k + 1)].any() for k in range(ITEMS))
        m.d.comb += fiber.as_value().eq(one_of(zip(of_item, fibers, strict=True)))
        for n in range(PAIR):
            chosen = one_of(zip(cut.where[n], blocks, strict=True))
            m.d.comb += selected[n].as_value().eq(chosen)
        out = payload_register(m, self.o)
        with m.If(advance):
            m.d.sync += self.o.valid.eq(cut.valid)
        with m.If(advance & cut.valid):
            m.d.sync += [
                out.block.eq(selected),
                out.take.eq(cut.take),
                out.fiber.eq(fiber),
                out.last.eq(cut.last),
            ]
        return m

    def _cut(
        self,
        m: Module,
        advance: Signal,
        put: Signal,
        put_at: Signal,
        room: Signal,
        cut: data.View,
    ) -> None:
        """Decide which lanes the next step takes, from the window of blocks."""
        limit = self._config.multipliers
        window = [Signal(WAITING, name=f"window_{n}") for n in range(WINDOW)]
        # unary: the lowest entries are there
        there = Signal(WINDOW)
        head, following = window[0], window[1]

        in_head = at_least(m, "in_head", head.lanes, limit + 1)
        in_next = at_least(m, "in_next", following.lanes, limit + 1)
        # The head has exactly c lanes, fewer than the limit.
        head_has = Signal(limit)
        m.d.comb += [
            head_has[c].eq(in_head[LANES][c] & ~in_head[LANES][c + 1]) for c in range(limit)
        ]

        def full_of_head(number: Value, more: int) -> Value:
            """Return whether the number of the head's lanes is at least the limit plus ``more``."""
            return Mux(self.single, number[1 + more], number[limit + more])

        def full_of_both(number: Value, more: int) -> Value:
            """Return whether, with all of the head's lanes, the next block's reach the limit plus
            ``more``.
            """
            alone = full_of_head(number, more)
            ways = [alone] + [number[limit + more - c] for c in range(1, limit)]
            return (Cat(ways) & head_has).any()

        wants_more = Signal()
        head_done = Signal()
        next_done = Signal()
        last = Signal()
        taken = Signal(LANES)  # the head's lanes, as lanes of the next block in the same banks
        collision = Signal(LANES)
        take_head = Signal(LANES)
        take_next = Signal(LANES)
        m.d.comb += [
            wants_more.eq(~head.last & ~full_of_head(in_head[LANES], 0)),
            head_done.eq(~full_of_head(in_head[LANES], 1)),
            taken.eq(swapped(head.lanes, head.skewed ^ following.skewed)),
            collision.eq((taken & following.lanes) & self.exclusive.replicate(LANES)),
            next_done.eq(wants_more & ~collision.any() & ~full_of_both(in_next[LANES], 1)),
            last.eq(Mux(next_done, following.last, head.last & head_done)),
        ]
        for lane in range(LANES):
            stopped = collision[: lane + 1].any() | full_of_both(in_next[lane], 0)
            m.d.comb += [
                take_head[lane].eq(head.lanes[lane] & ~full_of_head(in_head[lane], 0)),
                take_next[lane].eq(following.lanes[lane] & wants_more & ~stopped),
            ]

        ready = Signal()
        go = Signal()
        # Blocks whose lanes were all dropped in this pass make no step, unless their fiber ends.
        idle = head_has[0] & ~in_next[LANES][1] & ~last
        m.d.comb += [
            ready.eq(there[0] & (~wants_more | there[1])),
            go.eq(ready & advance),
        ]
        with m.If(advance):
            m.d.sync += [
                cut.valid.eq(ready & ~idle),
                cut.frees.eq(
                    Mux(ready, (head_done & head.frees) + (next_done & following.frees), 0)
                ),
            ]
        with m.If(go):
            m.d.sync += [
                cut.take[0].eq(take_head),
                cut.take[1].eq(take_next),
                cut.where[0].eq(head.where),
                cut.where[1].eq(following.where),
                cut.last.eq(last),
            ]

        # The window advances by the blocks that are done; arriving blocks are appended.
        fresh = [Signal(WAITING, name=f"fresh_{n}") for n in range(PAIR)]
        item = self.i.payload
        two = item.count == PAIR
        for n, entry in enumerate(fresh):
            m.d.comb += [
                entry.lanes.eq(item.block[n].lanes),
                entry.skewed.eq(item.block[n].index[0]),
                entry.last.eq(item.last & (two == n)),
                entry.frees.eq(two == n),
                entry.where.eq(
                    Cat(place if k == n else Const(0, 1) for place in put_at for k in range(PAIR))
                ),
            ]
        with m.If(item.count == 0):
            # A fiber without blocks still has an entry, to carry its end.
            m.d.comb += fresh[0].lanes.eq(0)
        by_one = Signal()
        by_two = Signal()
        still_there = Signal(WINDOW)
        m.d.comb += [
            by_one.eq(go & head_done & ~next_done),
            by_two.eq(go & next_done),
            still_there.eq(Mux(by_two, there >> 2, Mux(by_one, there >> 1, there))),
            room.eq(~there[WINDOW - PAIR]),
        ]
        arrived = Mux(two, Cat(Const(3, 2), still_there), Cat(Const(1, 1), still_there))
        m.d.sync += there.eq(Mux(put, arrived, still_there))
        lanes_left = [head.lanes & ~(take_head & go.replicate(LANES)), following.lanes & ~take_next]
        for n, entry in enumerate(window):
            moved = Signal(WAITING, name=f"moved_{n}")
            m.d.comb += moved.eq(entry)
            if n == 0:
                m.d.comb += moved.lanes.eq(lanes_left[0])
            for by, shift in ((by_one, 1), (by_two, 2)):
                if n + shift < WINDOW:
                    with m.If(by):
                        m.d.comb += moved.eq(window[n + shift])
                        if n + shift == 1:
                            m.d.comb += moved.lanes.eq(lanes_left[1])
            with m.If(go | put):
                with m.If(still_there[n]):
                    m.d.sync += entry.eq(moved)
                with m.Elif(still_there[n - 1] if n else 1):
                    m.d.sync += entry.eq(fresh[0])
                with m.Else():
                    m.d.sync += entry.eq(fresh[1])
