"""The assembler: groups terms that arrive in order into result blocks, without addition."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..config import LANES, POSITION_BITS, WIDE_BITS, ChipConfig
from ..format import BLOCK_COORDINATE_BITS


def _step(config: ChipConfig) -> data.StructLayout:
    """An item of terms, sorted by block: ``lanes[0]`` of the first block, ``lanes[1]`` of the
    next.
    """
    m = config.multipliers
    return data.StructLayout(
        {
            "lanes": data.ArrayLayout(m, 2),
            "place": data.ArrayLayout(BLOCK_COORDINATE_BITS, 2),
            "index": data.ArrayLayout(range(LANES), m),
            "value": data.ArrayLayout(WIDE_BITS, m),
            "fiber": POSITION_BITS,
            "end": 1,
            "final": 1,
        }
    )


class Assembler(wiring.Component):
    """Blocks of a nest that does not accumulate.

    The terms of a fiber have ascending keys, each once; those of one item are in at most two
    blocks, in ascending order, and no two of them have the same lane. A block leaves when a term of
    a later block, or the fiber's end, arrives. An ``end`` with nothing stored gives an item with
    mask 0 and ``last``.

    A block is at the output in the cycle after the transfer of the item that completes it. An item
    takes one cycle for each block that it completes, and at least one: fibers of one term pass at
    one per cycle. While the output is blocked, items wait. Lanes that are not in the mask are
    undefined.

    If keys do not ascend, or repeat, ``unordered`` rises within three cycles and stays until reset;
    the output is then undefined.

    Parameters
    ----------
    config : ChipConfig
        The chip.

    Members
    -------
    i : In(stream.Signature(tokens.terms(config)))
        Terms; ``place`` is the block coordinate, ``first`` is ignored.
    o : Out(stream.Signature(tokens.RESULT_BLOCK))
        Blocks, with the fiber of the item that completed them.
    unordered : Out(1)
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(tokens.terms(config))),
                "o": Out(stream.Signature(tokens.RESULT_BLOCK)),
                "unordered": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        multipliers = self._config.multipliers

        step = Signal(_step(self._config), reset_less=True)
        step_valid = Signal()
        step_done = Signal()

        # Sort the item's terms by block: those of the lowest valid term's block come first.
        terms = self.i.payload
        first_place = Signal(BLOCK_COORDINATE_BITS)
        second_place = Signal(BLOCK_COORDINATE_BITS)
        in_second = Signal(multipliers)
        for k in reversed(range(multipliers)):
            with m.If(terms.valid[k]):
                m.d.comb += first_place.eq(terms.place[k])
        for k in range(multipliers):
            with m.If(terms.valid[k]):
                m.d.comb += second_place.eq(terms.place[k])
            m.d.comb += in_second[k].eq(terms.place[k] != first_place)

        # The block being assembled (the open block).
        is_open = Signal()
        coordinate = Signal(BLOCK_COORDINATE_BITS, reset_less=True)
        mask = Signal(LANES)
        # of lanes in `mask`
        value = Signal(data.ArrayLayout(WIDE_BITS, LANES), reset_less=True)

        # The step's terms, moved to their lanes. No lane occurs twice in a step, so one crossbar
        # serves both of its blocks.
        touched = [Signal(LANES, name=f"touched_{block}") for block in range(2)]
        crossed = Signal(data.ArrayLayout(WIDE_BITS, LANES))
        for lane in range(LANES):
            hits = Cat(step.index[k] == lane for k in range(multipliers))
            for block in range(2):
                m.d.comb += touched[block][lane].eq((hits & step.lanes[block]).any())
            hits = hits & (step.lanes[0] | step.lanes[1])
            m.d.comb += crossed[lane].eq(
                reduce(or_, (Mux(hits[k], step.value[k], 0) for k in range(multipliers)))
            )

        has_first = step.lanes[0].any()
        has_second = step.lanes[1].any()
        joins = Signal()  # the step's first block is the open one, or the first of its fiber
        passes = Signal()  # the open block leaves: the step's first one is another
        splits = Signal()  # the step's first block leaves, merged with the open block
        ends = Signal()  # the open block, with the rest of the step, leaves and ends the fiber
        block, room = self.o.payload, self.o.ready
        m.d.comb += [
            joins.eq(has_first & (~is_open | (coordinate == step.place[0]))),
            passes.eq(step_valid & has_first & ~joins),
            splits.eq(step_valid & ~passes & has_second),
            ends.eq(step_valid & ~passes & ~splits & step.end),
            self.o.valid.eq(passes | splits | ends),
            block.coordinate.eq(Mux(is_open, coordinate, step.place[0])),
            block.mask.eq(mask | Mux(joins, touched[0], 0)),
            block.fiber.eq(step.fiber),
            block.last.eq(ends),
            block.final.eq(ends & step.final),
            # The end takes a cycle of its own if another block leaves before it.
            step_done.eq(
                Mux(passes | splits, room & ~step.end & ~(passes & has_second), ~ends | room)
            ),
        ]

        def keep(block: int, *, merge: Value | int, place: Value) -> None:
            """Continue with the terms of the step's ``block``, merged into the open one or not."""
            m.d.sync += [is_open.eq(1), coordinate.eq(place)]
            m.d.sync += mask.eq(touched[block] | Mux(merge, mask, 0))
            for lane in range(LANES):
                with m.If(touched[block][lane]):
                    m.d.sync += value[lane].eq(crossed[lane])

        with m.If(passes & room):
            keep(0, merge=0, place=step.place[0])
            m.d.sync += [
                step.lanes[0].eq(step.lanes[1]),
                step.lanes[1].eq(0),
                step.place[0].eq(step.place[1]),
            ]
        with m.If(splits & room):
            keep(1, merge=0, place=step.place[1])
            m.d.sync += [step.lanes[0].eq(0), step.lanes[1].eq(0)]
        with m.If(ends & room):
            m.d.sync += [is_open.eq(0), mask.eq(0)]
        with m.If(step_valid & ~passes & ~splits & ~ends & has_first):
            keep(0, merge=1, place=step.place[0])

        # Lanes of the open block at or above the lowest of the step's.
        again = Signal()
        back = Signal()  # a block is not above the one before
        m.d.sync += [
            again.eq(step_valid & has_first & is_open & joins & self._reaches(mask, touched[0])),
            back.eq(
                (step_valid & has_first & is_open & (step.place[0] < coordinate))
                | (step_valid & has_first & has_second & (step.place[1] <= step.place[0]))
            ),
        ]
        with m.If(again | back):
            m.d.sync += self.unordered.eq(1)

        # The next step is assigned last: it overrides the rest of the previous one.
        m.d.comb += self.i.ready.eq(~step_valid | step_done)
        with m.If(self.i.ready):
            m.d.sync += step_valid.eq(self.i.valid)
            m.d.sync += [
                step.lanes[0].eq(terms.valid & ~in_second),
                step.lanes[1].eq(terms.valid & in_second),
                step.place[0].eq(first_place),
                step.place[1].eq(second_place),
                step.index.eq(terms.index),
                step.value.eq(terms.value),
                step.fiber.eq(terms.fiber),
                step.end.eq(terms.end | terms.final),
                step.final.eq(terms.final),
            ]

        for lane in range(LANES):
            m.d.comb += block.value[lane].eq(
                Mux(joins & touched[0][lane], crossed[lane], value[lane])
            )
        return m

    def _reaches(self, mask: Value, lanes: Value) -> Value:
        """Return whether a bit of the mask is at or above the lowest of the lanes."""
        return Cat(mask[k] & lanes[: k + 1].any() for k in range(LANES)).any()
