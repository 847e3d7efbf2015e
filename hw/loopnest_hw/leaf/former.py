"""The step former: up to M lanes a cycle out of the two blocks at the head."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, ChipConfig
from ..tokens import PAIR
from .layouts import fiber_layout, formed, placed, placed_block

WINDOW = 5
"""Blocks at hand: two that a step takes from, two that are arriving, and one against bubbles."""


class Former(wiring.Component):
    """Cuts leaf fibers into steps.

    A step takes the head block's lowest lanes up to M; if that empties the block, it fills up from
    the next block of the same fiber, lowest lane first, and waits for it where it must. With
    ``exclusive`` (AXPY) it stops at a lane that it already took, with ``single`` (SCATTER) at one
    lane. A fiber without lanes makes one step without lanes.

    A step a cycle, two cycles after its blocks came. Which lanes meet depends on the blocks alone.
    Golden function: `loopnest_sim.model.form.form`.
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
        entry_layout = data.StructLayout(
            {"block": placed_block(config), "fiber": fiber_layout(config), "last": 1}
        )
        window = [Signal(entry_layout, name=f"window_{n}") for n in range(WINDOW)]
        level = Signal(range(WINDOW + 1))
        head, following = window[0], window[1]

        count = Signal(range(LANES + 1))
        take_head = Signal(LANES)
        take_next = Signal(LANES)
        allowed = Signal(LANES)
        m.d.comb += count.eq(sum(head.block.lanes))
        m.d.comb += take_head.eq(self._lowest(head.block.lanes, config.multipliers, 0))
        with m.If(self.single):
            m.d.comb += take_head.eq(head.block.lanes & -head.block.lanes)
        collision = following.block.lanes & take_head
        m.d.comb += allowed.eq(following.block.lanes)
        with m.If(self.exclusive & collision.any()):
            m.d.comb += allowed.eq(following.block.lanes & ((collision & -collision) - 1)[:LANES])

        wants_more = (count < config.multipliers) & ~head.last & ~(self.single & (count != 0))
        fits = Signal()
        m.d.comb += fits.eq(wants_more)
        with m.If(fits):
            m.d.comb += take_next.eq(self._lowest(allowed, config.multipliers, count))
            with m.If(self.single):
                m.d.comb += take_next.eq(allowed & -allowed)

        head_left = head.block.lanes & ~take_head
        next_left = following.block.lanes & ~take_next
        head_done = head_left == 0
        next_done = wants_more & (next_left == 0)
        last = Mux(next_done, following.last, head.last & head_done)
        ready = (level != 0) & (~wants_more | (level != 1))
        # Blocks whose lanes the pass has all dropped make no step, unless their fiber ends.
        idle = ~take_head.any() & ~take_next.any() & ~last

        advance = Signal()
        go = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), go.eq(ready & advance)]
        with m.If(advance):
            m.d.sync += [
                self.o.valid.eq(ready & ~idle),
                self.o.payload.block[0].eq(head.block),
                self.o.payload.block[1].eq(following.block),
                self.o.payload.take[0].eq(take_head),
                self.o.payload.take[1].eq(take_next),
                self.o.payload.fiber.eq(head.fiber),
                self.o.payload.last.eq(last),
            ]

        shift = Signal(range(PAIR + 1))
        m.d.comb += shift.eq(Mux(go, Mux(next_done, 2, head_done), 0))

        # A fiber without blocks still has an entry, to carry its end.
        arriving = Mux(self.i.payload.count == PAIR, PAIR, 1)
        put = self.i.valid & self.i.ready
        base = Signal(range(WINDOW + 1))
        m.d.comb += [
            base.eq(level - shift),
            self.i.ready.eq(level <= WINDOW - PAIR),
        ]
        m.d.sync += level.eq(base + Mux(put, arriving, 0))
        fresh = [Signal(entry_layout, name=f"fresh_{n}") for n in range(PAIR)]
        for n, entry in enumerate(fresh):
            m.d.comb += [
                entry.block.eq(self.i.payload.block[n]),
                entry.fiber.eq(self.i.payload.fiber),
                entry.last.eq(self.i.payload.last & (arriving == n + 1)),
            ]
        with m.If(self.i.payload.count == 0):
            m.d.comb += fresh[0].block.lanes.eq(0)
        kept = [Signal(entry_layout, name=f"kept_{n}") for n in range(WINDOW)]
        for n, entry in enumerate(kept):
            m.d.comb += entry.eq(window[n])
        with m.If(go):
            m.d.comb += kept[0].block.lanes.eq(head_left)
            with m.If(wants_more):
                m.d.comb += kept[1].block.lanes.eq(next_left)
        for n in range(WINDOW):
            sources = [kept[k] for k in range(n, min(n + PAIR, WINDOW - 1) + 1)]
            for s, source in enumerate(sources):
                with m.If(shift == s):
                    m.d.sync += window[n].eq(source)
            for k in range(PAIR):
                with m.If(put & (base + k == n)):
                    m.d.sync += window[n].eq(fresh[k])
        return m

    def _lowest(self, lanes: Any, limit: int, taken: Any) -> Any:
        """Return the lowest lanes, so many that with ``taken`` they are at most ``limit``."""
        chosen = []
        for lane in range(LANES):
            below = sum(lanes[:lane]) if lane else 0
            chosen.append(lanes[lane] & (below + taken < limit))
        return Cat(chosen)
