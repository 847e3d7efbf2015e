"""The joiner: merges the fibers of a row block by block, and selects the lanes to keep."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import COORDINATE_BITS, LANES, POSITION_BITS, ChipConfig
from ..format import BLOCK_COORDINATE_BITS, BLOCK_MASK_BITS
from ..tokens import AHEAD, BOUND, BOUND_BITS, FIBER_BLOCKS, joined


def merged(config: ChipConfig, pair: int) -> data.StructLayout:
    """Merged blocks: ``member[o]`` is set if operand o has the block."""
    operands = config.operands
    block = data.StructLayout(
        {
            "coordinate": BLOCK_COORDINATE_BITS,
            "member": operands,
            "mask": data.ArrayLayout(BLOCK_MASK_BITS, operands),
            "rank": data.ArrayLayout(COORDINATE_BITS, operands),
        }
    )
    return data.StructLayout(
        {
            "block": data.ArrayLayout(block, pair),
            "valid": pair,
            "present": operands,
            "child": data.ArrayLayout(POSITION_BITS, operands),
            "end": 1,
        }
    )


class Joiner(wiring.Component):
    """Merges one fiber of each operand in ``join``, and keeps the lanes that the tables keep.

    For each fiber, ``context`` has the operands that are present; it is taken at the fiber's end.
    Every operand in ``join`` has a fiber for each context; that of an absent operand is empty. A
    lane that none of these fibers has is dropped, whatever the lane table says.

    One merge step per cycle. With ``pair`` = 2 and one operand to join there is nothing to merge:
    both blocks of an item pass at once. The latency is three cycles; the last kept block waits for
    the next one or for the end of all fibers, which determines ``last``.

    ``bound[o]`` tells operand o's scanner which blocks cannot match, since the other operands are
    further ahead. It is computed from ``ahead`` and from the blocks at ``i`` a cycle ago (the rules
    are in `BlockReader`).

    See docs/architecture.md, "A row". Golden function: `loopnest_sim.model.join.join`.
    """

    def __init__(self, config: ChipConfig, pair: int) -> None:
        self._config = config
        self._pair = pair
        super().__init__(
            {
                "i": In(stream.Signature(FIBER_BLOCKS)).array(config.operands),
                "ahead": In(AHEAD).array(config.operands),
                "bound": Out(BOUND).array(config.operands),
                "context": In(stream.Signature(config.operands)),
                "join": In(config.operands),
                "block_table": In(config.table_bits),
                "lane_table": In(config.table_bits),
                "o": Out(stream.Signature(joined(config, pair))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        advance = Signal()
        alone = Signal()
        if self._pair > 1:
            ones = [self.join == 1 << o for o in range(self._config.operands)]
            m.d.comb += alone.eq(Cat(ones).any())
        merge_valid, merge = self._merge(m, advance, alone)
        lanes_valid, lanes = self._lanes(m, advance, merge_valid, merge)
        self._hold(m, advance, alone, lanes_valid, lanes)
        return m

    def _merge(self, m: Module, advance: Signal, alone: Signal) -> tuple[Signal, data.View]:
        """Take the smallest block, or both blocks if there is only one fiber."""
        operands = range(self._config.operands)
        valid = Signal(name="merge_valid")
        stage = Signal(merged(self._config, self._pair), name="merge_stage", reset_less=True)
        half = Signal(len(operands))
        done = Signal(len(operands))
        has, over, known, selected, used_up, ended = (
            Signal(len(operands), name=name)
            for name in ("has", "over", "known", "selected", "used_up", "ended")
        )
        item = [self.i[o].payload for o in operands]
        word = [
            Mux(half[o], item[o].word[1].as_value(), item[o].word[0].as_value()) for o in operands
        ]
        coordinate = [w[BLOCK_MASK_BITS:] for w in word]
        for o in operands:
            running = self.join[o] & self.i[o].valid & ~done[o]
            no_smaller = [~has[q] | (coordinate[o] <= coordinate[q]) for q in operands if q != o]
            final_word = Mux(half[o], 1, item[o].count == 1) | alone
            m.d.comb += [
                has[o].eq(running & (item[o].count != 0)),
                over[o].eq(running & (item[o].count == 0)),
                known[o].eq(~self.join[o] | done[o] | self.i[o].valid),
                selected[o].eq(has[o] & Cat(no_smaller).all()),
                used_up[o].eq(over[o] | selected[o] & final_word),
                ended[o].eq(~self.join[o] | done[o] | used_up[o] & item[o].last),
            ]
        self._bounds(m, done, over, has, half, coordinate)
        go = Signal()
        end = Signal()
        m.d.comb += [
            end.eq(ended.all()),
            go.eq(self.context.valid & known.all() & advance),
            self.context.ready.eq(go & end),
        ]
        for o in operands:
            m.d.comb += self.i[o].ready.eq(go & used_up[o])
        with m.If(go):
            m.d.sync += [
                done.eq(Mux(end, 0, ended & self.join)),
                half.eq((half | selected) & ~used_up),
            ]
        with m.If(advance):
            m.d.sync += valid.eq(go)
        with m.If(go):
            m.d.sync += [
                stage.end.eq(end),
                stage.present.eq(self.context.payload),
                stage.valid[0].eq(selected.any()),
            ]
            first = stage.block[0]
            smallest = Cat(
                [Cat(s & bit for bit in c) for s, c in zip(selected, coordinate, strict=True)]
            )
            m.d.sync += first.coordinate.eq(
                reduce(or_, [smallest.word_select(o, BLOCK_COORDINATE_BITS) for o in operands])
            )
            m.d.sync += first.member.eq(selected)
            for o in operands:
                m.d.sync += [
                    first.mask[o].eq(Mux(selected[o], word[o][:BLOCK_MASK_BITS], 0)),
                    first.rank[o].eq(
                        Mux(selected[o], Mux(half[o], item[o].rank[1], item[o].rank[0]), 0)
                    ),
                    stage.child[o].eq(item[o].child),
                ]
            if self._pair > 1:
                self._second_block(m, alone, selected, stage)
        return valid, stage

    def _bounds(
        self,
        m: Module,
        done: Signal,
        over: Signal,
        has: Signal,
        half: Signal,
        coordinate: list[Value],
    ) -> None:
        """Compute how far each operand's fiber may be skipped."""
        operands = range(self._config.operands)
        nothing = 1 << BLOCK_COORDINATE_BITS
        bounds = []
        for o in operands:
            item = self.i[o].payload
            head = Signal(BOUND_BITS, name=f"head_{o}")
            following = Signal(BOUND_BITS, name=f"following_{o}")
            with m.If(done[o] | over[o]):
                m.d.comb += [head.eq(nothing), following.eq(nothing)]
            with m.Elif(has[o]):
                m.d.comb += head.eq(coordinate[o])
                with m.If(~half[o] & (item.count == 2)):
                    m.d.comb += following.eq(item.word[1].coordinate)
                with m.Elif(item.last):
                    m.d.comb += following.eq(nothing)
                with m.Else():
                    # Not known, but above the head.
                    known = self.ahead[o].valid
                    m.d.comb += following.eq(Mux(known, self.ahead[o].coordinate, coordinate[o]))
            bounds.append((head, following))
        for o in operands:
            # Once a fiber's end is at `i`, no bound of the next fiber may apply to it.
            ended = done[o] | (self.i[o].valid & self.i[o].payload.last)
            needed = []
            for q in operands:
                if q == o:
                    continue
                # The block table keeps no block of o that q does not have.
                needs = Signal(name=f"needs_{o}_{q}")
                without = [p for p in range(1 << len(operands)) if p >> o & 1 and not p >> q & 1]
                kept = Cat(self.block_table[p] for p in without).any()
                m.d.sync += needs.eq(self.join[o] & self.join[q] & ~kept)
                needed.append(needs)
            bounded = Signal(name=f"bounded_{o}")  # it may be above 0
            m.d.sync += bounded.eq(Cat(needed).any())
            for name, values in zip(("head", "next"), zip(*bounds, strict=True), strict=True):
                others = [value for q, value in enumerate(values) if q != o]
                candidates = [
                    Mux(needs & ~ended, value, 0)
                    for needs, value in zip(needed, others, strict=True)
                ]
                with m.If(Cat(needed).any() | bounded):
                    m.d.sync += self.bound[o][name].eq(reduce(_larger, candidates))

    def _second_block(self, m: Module, alone: Signal, selected: Signal, stage: data.View) -> None:
        """Pass the second block on if there is only one fiber."""
        second = stage.block[1]
        m.d.sync += [stage.valid[1].eq(0), second.member.eq(0)]
        for o, port in enumerate(self.i):
            item = port.payload
            take = alone & selected[o] & (item.count == 2)
            m.d.sync += [
                second.mask[o].eq(Mux(take, item.word[1].mask, 0)),
                second.rank[o].eq(Mux(take, item.rank[1], 0)),
            ]
            with m.If(take):
                m.d.sync += [
                    stage.valid[1].eq(1),
                    second.member[o].eq(1),
                    second.coordinate.eq(item.word[1].coordinate),
                ]

    def _lanes(
        self, m: Module, advance: Signal, merge_valid: Signal, merge: data.View
    ) -> tuple[Signal, data.View]:
        """Look up the presence pattern of every lane."""
        operands = range(self._config.operands)
        table = Signal(self._config.table_bits, name="table")
        for p in range(self._config.table_bits):
            m.d.comb += table[p].eq(self.lane_table[p] & (self.join & p).any())
        valid = Signal(name="lanes_valid")
        stage = Signal(joined(self._config, self._pair), name="lanes_stage", reset_less=True)
        load = Signal(name="load_lanes")
        m.d.comb += load.eq(advance & merge_valid)
        with m.If(advance):
            m.d.sync += valid.eq(merge_valid)
        with m.If(load):
            m.d.sync += [stage.last.eq(merge.end), stage.child.eq(merge.child)]
        for n in range(self._pair):
            source, target = merge.block[n], stage.block[n]
            # An operand without a join input has every block and lane if it is present.
            member = Signal(len(operands), name=f"member_{n}")
            bits = [Signal(LANES, name=f"bits_{n}_{o}") for o in operands]
            keep = Signal(name=f"keep_{n}")
            for o in operands:
                present = merge.present[o]
                m.d.comb += [
                    member[o].eq(Mux(self.join[o], source.member[o], present)),
                    bits[o].eq(Mux(self.join[o], source.mask[o], present.replicate(LANES))),
                ]
            m.d.comb += keep.eq(merge.valid[n] & self.block_table.bit_select(member, 1))
            lanes = [
                keep & table.bit_select(Cat(bits[o][lane] for o in operands), 1)
                for lane in range(LANES)
            ]
            with m.If(load):
                m.d.sync += [
                    target.coordinate.eq(source.coordinate),
                    target.mask.eq(source.mask),
                    target.rank.eq(source.rank),
                    target.lanes.eq(Cat(lanes)),
                ]
        return valid, stage

    def _hold(
        self,
        m: Module,
        advance: Signal,
        alone: Signal,
        lanes_valid: Signal,
        lanes: data.View,
    ) -> None:
        """Hold one kept block back until it is known whether it is the fiber's last.

        With only one fiber this is not needed: the tables keep all of its blocks or none, since
        every lane of a mask has the same pattern.
        """
        held_valid = Signal()
        # The item leaves without waiting: it is its fiber's last, or there is only one fiber.
        released = Signal()
        held = Signal(joined(self._config, self._pair), reset_less=True)
        count = Signal(range(self._pair + 1))
        m.d.comb += count.eq(
            sum(b.lanes.any() for b in (lanes.block[n] for n in range(self._pair)))
        )
        kept = count != 0
        m.d.comb += [
            self.o.valid.eq(held_valid & (released | lanes_valid & (kept | lanes.last))),
            self.o.payload.eq(held),
            advance.eq(~self.o.valid | self.o.ready),
        ]
        waiting = held_valid & ~released
        with m.If(waiting & lanes_valid & ~kept & lanes.last):
            m.d.comb += self.o.payload.last.eq(1)
        take = Signal()
        m.d.comb += take.eq(lanes_valid & (kept | lanes.last & ~waiting))
        with m.If(advance):
            with m.If(take):
                m.d.sync += [
                    held.eq(lanes),
                    held.count.eq(count),
                    released.eq(alone | lanes.last),
                ]
            m.d.sync += held_valid.eq(take | waiting & ~(lanes_valid & (kept | lanes.last)))


def _larger(one: Value, other: Value) -> Value:
    return Mux(one > other, one, other)
