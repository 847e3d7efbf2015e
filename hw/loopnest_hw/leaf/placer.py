"""The placer: the source of a leaf block's values, and the destination of its terms."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..accumulate.skew import is_skewed
from ..arith.delay import Flow, delayed
from ..config import BANK_SKEW, COORDINATE_BITS, LANES, MAX_LOG2_COPIES, PAIR, ChipConfig
from ..descriptor import CellMode, LeafMode, ResultMode
from ..format import BLOCK_COORDINATE_BITS
from ..kernel import inner_loops, kernel_layout
from ..queue import Queue
from ..row.scale import ScaledSum
from ..tokens import found, joined, lookup, token
from .layouts import placed

LANE_BITS = LANES.bit_length() - 1

WAITING = 8
"""Items that can wait for the accumulator's answer: its latency, plus some slack."""


class Placer(wiring.Component):
    """Computes the leaf blocks' base positions, and looks up their places in the accumulator.

    ``i`` has the joined blocks of every ``context`` token that is not null. If the nest
    accumulates, the result's blocks are looked up (in DOT once a fiber, otherwise once an item);
    the blocks of a stale fiber are dropped, and lanes of a block that the pass does not keep are
    cleared. If the nest does not accumulate, `retired` has an item for each row-0 token that ends.

    If the kernel uses 2 or 4 copies of a key, block b of a result fiber's n-th leaf fiber is looked
    up as block ``copies * b + n mod copies``: successive fibers that touch the same lanes use
    different slots. The combiner behind the drain adds the copies.

    If the nest accumulates, the number of a block as it is looked up gives its lanes their banks.

    Two blocks per cycle. A fiber without blocks leaves an item only where a result fiber, a row-0
    token or the nest ends with it.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(joined(config, PAIR))),
                "context": In(stream.Signature(token(config))),
                "kernel": In(kernel_layout(config)),
                "epoch": In(1),
                "lookup": Out(stream.Signature(lookup(config))),
                "found": In(stream.Signature(found(config))),
                "retired": Out(stream.Signature(1)),
                "o": Out(stream.Signature(placed(config))),
            }
        )

    def _waiting(self) -> data.StructLayout:
        return data.StructLayout({"placed": placed(self._config), "retire": 1, "asks": 1})

    def _entry(self) -> data.StructLayout:
        more = {"copy": MAX_LOG2_COPIES, "epoch": 1}
        return data.StructLayout({**self._waiting().members, **more})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.waiting = waiting = Queue(self._waiting(), WAITING)
        self._place(m, waiting)
        self._answer(m, waiting)
        return m

    def _place(self, m: Module, waiting: Queue) -> None:
        """Compute bases and keys, and ask for the keys' slots."""
        config = self._config
        operands = range(config.operands)
        row = self.kernel.row[config.rows - 1]
        scatter = self.kernel.leaf_mode == LeafMode.SCATTER
        dot = self.kernel.leaf_mode == LeafMode.DOT
        advance = Signal()

        # Number of fibers that end with a row-0 token: the loops below row 0.
        inner = Signal(config.stop_bits)
        m.d.comb += inner.eq(inner_loops(config, self.kernel))

        context, item = self.context.payload, self.i.payload
        first = Signal(init=1)
        # A fiber is skipped as a whole: the only lookup of a dot fiber may be the one that causes
        # the replay, while the rest of the fiber has yet to arrive.
        skip = Signal()
        skipped = Signal()
        m.d.comb += skip.eq(Mux(first, context.epoch != self.epoch, skipped))
        m.d.sync += skipped.eq(skip)
        nothing = context.null | skip
        go = Signal()
        last = context.null | item.last
        m.d.comb += [
            go.eq(self.context.valid & (context.null | self.i.valid) & advance),
            self.i.ready.eq(go & ~context.null),
            self.context.ready.eq(go & last),
        ]
        with m.If(go):
            m.d.sync += first.eq(last)

        entry = Signal(self._entry())
        stop = context.stop + 1
        ends = data.View(
            data.StructLayout({"end": 1, "retire": 1, "final": 1}), Signal(3, name="ends")
        )
        m.d.comb += [
            ends.end.eq(stop >= self.kernel.drain_stop),
            ends.retire.eq(stop >= inner),
            ends.final.eq(stop > inner),
            entry.placed.count.eq(Mux(nothing, 0, item.count)),
            entry.placed.fiber.present.eq(context.present),
            entry.placed.fiber.fiber.eq(context.fiber),
            entry.placed.fiber.end.eq(ends.end),
            entry.placed.fiber.final.eq(ends.final),
            entry.placed.last.eq(last),
            entry.retire.eq(ends.retire),
            # The end of a skipped fiber is looked up too: it is answered as stale.
            entry.asks.eq(self.kernel.accumulate & (~dot | first | skip)),
            entry.epoch.eq(context.epoch),
            entry.copy.eq(self._turn(m, context, go & last, ends.end)),
        ]
        # A fiber without blocks matters only for what ends with it; a skipped one only for its end.
        matters = Mux(
            entry.placed.count == 0, last & Cat(ends.end, ends.retire, ends.final).any(), 1
        )

        flow = Flow(m, go & matters, ScaledSum.latency, advance=advance)
        valid = flow.valid[-1]
        entry_in = data.View(self._entry(), delayed(m, entry.as_value(), flow.load))

        out = Signal(self._entry())
        m.d.comb += out.eq(entry_in)
        for n in range(PAIR):
            block = item.block[n]
            m.d.comb += [
                entry.placed.block[n].lanes.eq(block.lanes),
                entry.placed.block[n].mask.eq(block.mask),
            ]
            for o in operands:
                cell = row.cell[o]
                m.submodules[f"base_{n}_{o}"] = base = ScaledSum()
                m.d.comb += [
                    base.base.eq(context.position[o]),
                    base.step.eq(cell.step),
                    base.load.eq(flow.load),
                    out.placed.block[n].base[o].eq(base.o),
                ]
                with m.Switch(cell.mode):
                    with m.Case(CellMode.SCAN):
                        m.d.comb += [base.base.eq(item.child[o]), base.number.eq(block.rank[o])]
                    with m.Case(CellMode.FOLLOW):
                        m.d.comb += base.number.eq(block.coordinate << 4)

        key, second_block = self._keys(m, flow)

        # A lookup and its item leave together.
        m.submodules.lookups = lookups = Queue(lookup(config), 2)
        connect(m, lookups.o, flipped(self.lookup))
        ask = out.asks
        m.d.comb += [
            lookups.i.valid.eq(valid & ask & waiting.i.ready),
            waiting.i.valid.eq(valid & (~ask | lookups.i.ready)),
            *(waiting.i.payload[name].eq(out[name]) for name in self._waiting().members),
            advance.eq(~valid | waiting.i.ready & (~ask | lookups.i.ready)),
        ]
        asked_last = dot | out.placed.last
        request = lookups.i.payload
        m.d.comb += [
            request.epoch.eq(out.epoch),
            request.end.eq(out.placed.fiber.end & asked_last),
            request.retire.eq(out.retire & asked_last),
            request.final.eq(out.placed.fiber.final & asked_last),
        ]
        single = dot | scatter
        m.d.comb += request.count.eq(Mux(single & (out.placed.count != 0), 1, out.placed.count))
        for n in range(PAIR):
            lane = Mux(single, key[:LANE_BITS], 0)
            block = Mux(dot, key[LANE_BITS:], second_block) if n else key[LANE_BITS:]
            copied = self._copied(m, block, entry_in.copy, n)
            skewed = self.kernel.accumulate & is_skewed(copied)
            m.d.comb += [
                request.block[n].eq(copied),
                request.mask[n].eq(Mux(single, 1 << lane, entry_in.placed.block[n].lanes)),
                out.placed.block[n].index.eq(lane ^ Mux(skewed, BANK_SKEW, 0)),
                out.placed.block[n].place.eq(block),
            ]

    def _keys(self, m: Module, flow: Flow) -> tuple[Value, Value]:
        """Return the key of an item's first lane, and the number of its second block in AXPY.

        Only SCATTER multiplies, and its items have one block: AXPY's step is 1, and a dot fiber has
        one key.
        """
        context, blocks = self.context.payload, self.i.payload.block
        row = self.kernel.row[self._config.rows - 1]
        m.submodules.key = key = ScaledSum(COORDINATE_BITS)
        lane_index = Signal(LANE_BITS)
        with m.If(self.kernel.leaf_mode == LeafMode.SCATTER):
            for lane in range(LANES):
                with m.If(blocks[0].lanes[lane]):
                    m.d.comb += lane_index.eq(lane)
        m.d.comb += [
            key.base.eq(context.key),
            key.step.eq(row.result_step),
            key.load.eq(flow.load),
        ]
        with m.If(row.result_mode == ResultMode.KEY):
            m.d.comb += key.number.eq(Cat(lane_index, blocks[0].coordinate))
        second = (context.key[LANE_BITS:] + blocks[1].coordinate)[:BLOCK_COORDINATE_BITS]
        return key.o, delayed(m, second, flow.load)

    def _turn(self, m: Module, context: data.View, ends: Signal, result_ends: Value) -> Signal:
        """Return the number of the leaf fiber within its result fiber, modulo the copies."""
        # A replay begins with a new epoch, and with the result fiber's first leaf fiber.
        counted_epoch = Signal()
        count = Signal(MAX_LOG2_COPIES)
        turn = Signal(MAX_LOG2_COPIES)
        m.d.comb += turn.eq(Mux(context.epoch == counted_epoch, count, 0))
        with m.If(ends):
            m.d.sync += [
                counted_epoch.eq(context.epoch),
                count.eq(Mux(result_ends, 0, turn + ~context.null)),
            ]
        return turn

    def _copied(self, m: Module, block: Value, copy: Value, n: int) -> Signal:
        """Return the block that stands for a copy of a key's block in the accumulator."""
        copied = Signal(COORDINATE_BITS - 4, name=f"copied_{n}")
        with m.Switch(self.kernel.copies):
            with m.Case(0):
                m.d.comb += copied.eq(block)
            for copies in range(1, MAX_LOG2_COPIES + 1):
                with m.Case(copies):
                    m.d.comb += copied.eq(Cat(copy[:copies], block))
        return copied

    def _answer(self, m: Module, waiting: Queue) -> None:
        """Apply the accumulator's answers, and drop what is not part of this pass."""
        item = waiting.o.payload
        dot = self.kernel.leaf_mode == LeafMode.DOT
        single = self.kernel.leaf_mode != LeafMode.AXPY
        m.submodules.retiring = retiring = Queue(1, 2)
        connect(m, retiring.o, flipped(self.retired))

        kept = Signal(found(self._config), reset_less=True)
        answer = Signal(found(self._config))
        m.d.comb += answer.eq(Mux(item.asks, self.found.payload.as_value(), kept.as_value()))
        retires = ~self.kernel.accumulate & item.retire & item.placed.last
        drop = self.kernel.accumulate & answer.stale
        known = ~item.asks | self.found.valid
        go = Signal()
        m.d.comb += [
            self.o.valid.eq(waiting.o.valid & known & ~drop & (~retires | retiring.i.ready)),
            self.o.payload.eq(item.placed),
            go.eq((self.o.valid & self.o.ready) | (waiting.o.valid & known & drop)),
            waiting.o.ready.eq(go),
            # An item that retires a token leaves together with that retirement.
            retiring.i.valid.eq(go & retires),
            self.found.ready.eq(go & item.asks),
        ]
        with m.If(go & item.asks):
            m.d.sync += kept.eq(self.found.payload)
        for n in range(PAIR):
            block = self.o.payload.block[n]
            slot, keep, first = answer.slot[n], answer.keep[n], answer.first[n]
            if n > 0:
                # A dot fiber has one key, and so has its second block.
                slot = Mux(dot, answer.slot[0], slot)
                keep = Mux(dot, answer.keep[0], keep)
                first = Mux(dot, answer.first[0], first)
            with m.If(self.kernel.accumulate):
                m.d.comb += [
                    block.place.eq(slot),
                    block.first.eq(Mux(single & first.any(), (1 << LANES) - 1, first)),
                    block.lanes.eq(Mux(keep, item.placed.block[n].lanes, 0)),
                ]
            with m.Else():
                m.d.comb += block.first.eq((1 << LANES) - 1)
