"""The writer: writes result blocks to memory, compressed or as dense values."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Assert, Cat, Const, Module, Mux, ResetSignal, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..config import ADDRESS_BITS, LANES, LINE_BYTES, POSITION_BITS, WIDE_BITS, ChipConfig
from ..descriptor import PIECE_FIBERS, Output
from ..formal import FORMAL
from ..format import CHUNK_LANES, ENTRY_BYTES, WORD_BYTES
from ..kernel import kernel_layout
from ..unary import lowest
from .line_builder import PLACE_BITS, LineBuilder
from .rooms import longest_fiber, shared_members

ROOM_BITS = ADDRESS_BITS + 1

FULL = data.StructLayout({"blocks": 1, "values": 1, "table": 1})
"""Which regions were too small."""

_INDEX_BITS = POSITION_BITS + 1
"""Bits of a value's index in the result."""


def _prefix_counts(m: Module, mask: Value) -> list[Value]:
    """Return the number of set bits below each bit, and of all, by a parallel prefix network."""
    sums: list[Value] = [mask[k] for k in range(LANES)]
    distance = 1
    while distance < LANES:
        level = []
        for k in range(LANES):
            total = Signal(range(2 * distance + 1), name=f"count_{2 * distance}_{k}")
            below = sums[k - distance] if k >= distance else 0
            m.d.comb += total.eq(sums[k] + below)
            level.append(total)
        sums = list(level)
        distance *= 2
    return [Value.cast(0), *sums]


def _highest(lanes: Value) -> Value:
    """Return the number of the highest set bit plus one, or 0 if none is set."""
    place = Value.cast(0)
    for k in range(len(lanes)):
        place = Mux(lanes[k], k + 1, place)
    return place


class Writer(wiring.Component):
    """Writes result blocks in the layout of `format`.

    Compressed: the values are packed in order of arrival from ``result.values`` on, the block words
    from ``result.blocks`` on; the item with ``last`` writes the fiber's entry {first block, first
    child, end of blocks, 0} at ``result.table + 16 * fiber``. With ``share.rows`` other PEs write
    the same regions: a fiber then starts in another piece of a region (`Rooms`) unless the PE's
    piece has room for the longest fiber. Dense: lane l's value goes to
    ``result.values + (fiber + 16 * coordinate + l) * bytes``. A narrow value is in the low bits.

    Values are written in chunks: the first 8 of a compressed item, then the others (the second
    block's after the first one's); the lower and the upper 8 lanes of a dense one. A chunk that
    ends beyond ``values_end`` is dropped whole, as are an item's block words that end beyond
    ``blocks_end``, and an entry beyond ``table_end``; ``full`` reports it. Everything else is
    written.

    A chunk of values, an item's block words and an entry are processed in each cycle, as long as
    the output accepts the lines that they complete. Latency from an item to its line is at least
    five cycles.

    Parameters
    ----------
    config : ChipConfig
        The chip.

    Members
    -------
    result : In(kernel_layout(config).members["result"])
        Constant from the cycle before the first block on.
    i : In(stream.Signature(tokens.RESULT_BLOCK))
    o : Out(stream.Signature(tokens.LINE_WRITE))
        The three arrays' lines. One of values leaves first, unless one did so in the previous cycle
        while another line was ready: values have the most lines, and the longest chunks to wait.
    done : Out(1)
        The final item has arrived and all lines are output. Stays until reset.
    full : Out(FULL)
        Something was dropped, or a fiber is longer than the longest one is said to be. Complete
        when `done` rises; stays until reset.
    share : In(kernel_layout(config).members["share"]), room : Out(PIECES)
        With several PEs only: the descriptor's member of this name, and the PE's port of `Rooms`.
    blocks_counted : Out(range(3)), values_counted : Out(range(17))
        Numbers of block words and values of a compressed result that went to their builders in the
        previous cycle, including those that do not fit.
    busy : Out(1)
        A block or part of a line is inside.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "result": In(kernel_layout(config).members["result"]),
                "i": In(stream.Signature(tokens.RESULT_BLOCK)),
                "o": Out(stream.Signature(tokens.LINE_WRITE)),
                "done": Out(1),
                "full": Out(FULL),
                "blocks_counted": Out(range(tokens.PAIR + 1)),
                "values_counted": Out(range(LANES + 1)),
                "busy": Out(1),
                **shared_members(config),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        narrow_bytes = self._config.dtype.narrow_bytes
        result = self.result

        m.submodules.values = values = LineBuilder(
            chunk_bytes=LINE_BYTES, unit_bytes=narrow_bytes, waiting=1
        )
        # Words and entries wait while lines of values leave.
        m.submodules.words = words = LineBuilder(
            chunk_bytes=tokens.PAIR * WORD_BYTES, unit_bytes=WORD_BYTES, waiting=3
        )
        m.submodules.entries = entries = LineBuilder(
            chunk_bytes=ENTRY_BYTES, unit_bytes=ENTRY_BYTES, waiting=3
        )
        builders = [values, words, entries]

        def room(begin: Value, end: Value, name: str) -> Signal:
            """Return a register: using the settings directly would lengthen the path."""
            size = Signal(ROOM_BITS, name=name, reset_less=True)
            expected = Mux(begin < end, end - begin, 0)
            m.d.sync += size.eq(expected)
            if platform == FORMAL:
                m.d.comb += Assert(ResetSignal() | (size == expected))
            return size

        m.d.comb += [
            values.base.eq(result.values[PLACE_BITS:]),
            words.base.eq(result.blocks[PLACE_BITS:]),
            entries.base.eq(result.table[PLACE_BITS:]),
            values.room.eq(room(result.values, result.values_end, "values_room")),
            words.room.eq(room(result.blocks, result.blocks_end, "blocks_room")),
            entries.room.eq(room(result.table, result.table_end, "table_room")),
        ]

        compressed = result.compressed
        narrow = result.output == Output.NARROW
        scale = Mux(narrow, narrow_bytes.bit_length() - 1, WORD_BYTES.bit_length() - 1)

        # Count: the block's lanes, and their addresses.
        block = Signal(tokens.RESULT_BLOCK, reset_less=True)
        block_valid = Signal()
        block_done = Signal()
        rank = Signal(data.ArrayLayout(range(LANES), LANES), reset_less=True)
        count = Signal(range(LANES + 1), reset_less=True)
        dense_index = Signal(_INDEX_BITS, reset_less=True)
        two_chunks = Signal()
        upper = Signal()  # the block's second chunk is next

        arriving = self.i.payload
        counts = _prefix_counts(m, arriving.mask)
        second_counts = _prefix_counts(m, arriving.second.mask)
        total = counts[LANES] + second_counts[LANES]
        low = arriving.mask[:CHUNK_LANES].any()
        high = arriving.mask[CHUNK_LANES:].any()

        # Compact: a chunk's values from lane 0 on or, if dense, each in its lane.
        taken = Signal(CHUNK_LANES)  # slots of the chunk that hold a value
        lanes = Signal(LANES, reset_less=True)  # of both blocks
        slots = [Signal(WIDE_BITS, name=f"slot_{s}") for s in range(CHUNK_LANES)]
        for s, slot in enumerate(slots):
            dense_lane = Mux(upper, block.mask[s + CHUNK_LANES], block.mask[s])
            m.d.comb += taken[s].eq(Mux(compressed, count > Cat(Const(s, 3), upper), dense_lane))
            picks = []
            for lane in range(LANES):
                packed = lanes[lane] & (rank[lane] == Cat(Const(s, 3), upper))
                if lane == s:
                    pick = Mux(compressed, packed, ~upper)
                elif lane == s + CHUNK_LANES:
                    pick = Mux(compressed, packed, upper)
                else:
                    pick = compressed & packed
                picks.append(Mux(pick, block.value[lane], 0))
            m.d.comb += slot.eq(reduce(or_, picks))

        wide_data = Cat(slots)
        narrow_width = 8 * narrow_bytes * CHUNK_LANES
        narrow_data = Cat(slot[: 8 * narrow_bytes] for slot in slots)
        wide_strobe = Cat(
            taken[s].replicate(WORD_BYTES // narrow_bytes) for s in range(CHUNK_LANES)
        )

        # Values before this chunk, block words before this block, and both at the fiber's start.
        value_count = Signal(_INDEX_BITS)
        # With several PEs, a piece may begin at 2^32, which is beyond every region.
        count_bits = POSITION_BITS + (self._config.pes > 1)
        block_count = Signal(count_bits)
        first_child = Signal(POSITION_BITS)
        first_block = Signal(POSITION_BITS)

        has_lanes = Signal()
        words_here = Signal(range(tokens.PAIR + 1))
        second_word = Signal()
        last_chunk = Signal()
        index = Signal(_INDEX_BITS)
        end_index = Signal(_INDEX_BITS + 1)
        span = Signal(range(LANES + 1))
        block_count_next = Signal(count_bits)
        packed_count = Mux(upper, Cat(count[:3], count[4]), Mux(two_chunks, CHUNK_LANES, count))
        dense_span = Mux(
            upper,
            _highest(block.mask[CHUNK_LANES:]) + CHUNK_LANES,
            _highest(block.mask[:CHUNK_LANES]),
        )
        m.d.comb += [
            has_lanes.eq(block.mask.any()),
            words_here.eq(Mux(compressed, has_lanes + second_word, 0)),
            last_chunk.eq(upper | ~two_chunks),
            index.eq(Mux(compressed, value_count, dense_index)),
            span.eq(Mux(compressed, packed_count, dense_span)),
            end_index.eq(index + span),
            block_count_next.eq(block_count + words_here),
        ]

        finishes = Signal()
        go = Signal()
        placed = Signal(init=1)  # the fiber has a place
        m.d.comb += [
            finishes.eq(block.final & last_chunk),
            # The builders' readies are registers, and fall only after a transfer.
            go.eq(block_valid & placed & values.i.ready & words.i.ready & entries.i.ready),
            block_done.eq(go & last_chunk),
            values.i.valid.eq(go & (taken.any() | finishes)),
            values.i.payload.offset.eq((index + Mux(upper & ~compressed, CHUNK_LANES, 0)) << scale),
            values.i.payload.end.eq(end_index << scale),
            values.i.payload.data.eq(
                Cat(Mux(narrow, narrow_data, wide_data[:narrow_width]), wide_data[narrow_width:])
            ),
            values.i.payload.strobe.eq(Mux(narrow, taken, wide_strobe)),
            values.i.payload.final.eq(finishes),
            words.i.valid.eq(go & last_chunk & (words_here.any() | block.final)),
            words.i.payload.offset.eq(block_count << 2),
            words.i.payload.end.eq(block_count_next << 2),
            words.i.payload.data.eq(
                Cat(block.mask, block.coordinate, block.second.mask, block.second.coordinate)
            ),
            words.i.payload.strobe.eq(Cat(words_here > n for n in range(tokens.PAIR))),
            words.i.payload.final.eq(block.final),
            entries.i.valid.eq(go & last_chunk & (compressed & block.last | block.final)),
            entries.i.payload.offset.eq(block.fiber << 4),
            entries.i.payload.end.eq((block.fiber << 4) + ENTRY_BYTES),
            entries.i.payload.data.eq(
                Cat(first_block, first_child, block_count_next[:POSITION_BITS])
            ),
            entries.i.payload.strobe.eq(compressed & block.last),
            entries.i.payload.final.eq(block.final),
        ]
        m.d.sync += [
            self.blocks_counted.eq(Mux(go & last_chunk, words_here, 0)),
            self.values_counted.eq(Mux(go & compressed, span, 0)),
        ]
        with m.If(go):
            m.d.sync += upper.eq(1)
            with m.If(compressed):
                m.d.sync += value_count.eq(end_index)
            with m.If(last_chunk):
                m.d.sync += block_count.eq(block_count_next)
                with m.If(block.last):
                    m.d.sync += [first_block.eq(block_count_next), first_child.eq(end_index)]

        placed_now, overrun = self._pieces(
            m,
            starts=block_valid & compressed & has_lanes,
            go=go,
            ends=last_chunk & block.last,
            has_lanes=has_lanes,
            values=(value_count, first_child, span),
            blocks=(block_count, first_block, Mux(last_chunk, words_here, 0)),
        )
        m.d.comb += placed.eq(placed_now)

        # The next block is assigned last: it overrides the rest of the previous one.
        m.d.comb += self.i.ready.eq(~block_valid | block_done)
        with m.If(self.i.ready):
            m.d.sync += block_valid.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                block.eq(arriving),
                lanes.eq(arriving.mask | arriving.second.mask),
                count.eq(total),
                second_word.eq(arriving.second.mask.any()),
                dense_index.eq(arriving.fiber + (arriving.coordinate << (LANES.bit_length() - 1))),
                two_chunks.eq(Mux(compressed, total > CHUNK_LANES, low & high)),
                upper.eq(~compressed & ~low & high),
            ]
            for lane in range(LANES):
                behind = counts[LANES] + second_counts[lane]
                m.d.sync += rank[lane].eq(Mux(arriving.second.mask[lane], behind, counts[lane]))

        self._arbitrate(m, builders, platform)

        lines_left = Cat(builder.o.valid for builder in builders).any()
        flushed = Cat(builder.flushed for builder in builders).all()
        m.d.sync += self.done.eq(flushed & ~lines_left)
        m.d.comb += [
            self.full.blocks.eq(words.full | overrun.blocks),
            self.full.values.eq(values.full | overrun.values),
            self.full.table.eq(entries.full),
            self.busy.eq(block_valid | lines_left),
        ]
        return m

    def _pieces(
        self,
        m: Module,
        *,
        starts: Value,
        go: Value,
        ends: Value,
        has_lanes: Value,
        values: tuple[Signal, Signal, Value],
        blocks: tuple[Signal, Signal, Value],
    ) -> tuple[Value, data.View]:
        """Begin fibers in pieces of the regions where several PEs write them.

        ``values`` and ``blocks``: the count so far, the fiber's first one, and how many are
        written with ``go``. Return whether the fiber has a place, and in which regions one was too
        long for its piece.
        """
        overrun = Signal(FULL)
        if self._config.pes == 1:
            return Value.cast(1), overrun
        fresh = Signal(init=1)  # no lane of the fiber has been written
        with m.If(go):
            m.d.sync += fresh.eq(ends | fresh & ~has_lanes)
        for port, longest, (count, first, written), too_long in (
            (self.room.values, longest_fiber(self.share, blocks=False), values, overrun.values),
            (self.room.blocks, longest_fiber(self.share, blocks=True), blocks, overrun.blocks),
        ):
            # What is left of the piece, less the longest fiber.
            spare = Signal(signed(POSITION_BITS + 10), init=-1)
            m.d.comb += port.ask.eq(starts & self.share.rows & fresh & (spare < 0))
            with m.If(go):
                m.d.sync += spare.eq(spare - written)
            with m.If(port.granted):
                m.d.sync += [
                    spare.eq((PIECE_FIBERS - 1) * longest),
                    count.eq(port.start),
                    first.eq(port.start),
                ]
            with m.If(self.share.rows & self.result.compressed & (spare + longest < 0)):
                m.d.sync += too_long.eq(1)
        return ~(self.room.values.ask | self.room.blocks.ask), overrun

    def _arbitrate(self, m: Module, builders: list[LineBuilder], platform: Any) -> None:
        """Output the builders' lines; a line that is offered holds until it is taken.

        The first builder's line leaves first, unless one did so in the previous cycle while another
        builder's waited.
        """
        n = len(builders)
        waiting = Signal()
        shown = Signal(n)
        chosen = Signal(n)
        before = Signal()  # the first builder's line has left before another one
        valid = Cat(builder.o.valid for builder in builders)
        first = valid[0] & ~before
        payloads = [builder.o.payload.as_value() for builder in builders]
        m.d.comb += [
            chosen.eq(Mux(waiting, shown, Cat(first, Mux(first, 0, lowest(valid[1:]))[: n - 1]))),
            self.o.valid.eq(valid.any()),
            self.o.payload.eq(reduce(or_, (Mux(chosen[k], payloads[k], 0) for k in range(n)))),
        ]
        for k, builder in enumerate(builders):
            m.d.comb += builder.o.ready.eq(self.o.ready & chosen[k])
        m.d.sync += [
            shown.eq(chosen),
            waiting.eq(self.o.valid & ~self.o.ready),
            before.eq(chosen[0] & valid[1:].any()),
        ]
        if platform == FORMAL:
            m.d.comb += Assert(~waiting | ~(shown & ~valid).any())
