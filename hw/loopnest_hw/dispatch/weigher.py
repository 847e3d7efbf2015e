"""The weigher: cuts row 0's blocks into chunks of about equal work."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import (
    ADDRESS_BITS,
    COORDINATE_BITS,
    LANES,
    LINE_SHIFT,
    POSITION_BITS,
    ChipConfig,
)
from ..format import OPEN_STRIDE, PACKED_STRIDE, WORD_BYTES
from ..kernel import kernel_layout
from ..queue import Queue
from ..register import payload_register
from ..tokens import WEIGHT_BITS, chunk, gather_reply, gather_request, joined
from ..unary import below, one_of
from ..unary import number as number_of
from .level import WeighedLevel
from .pairs import PARTS, Pairs

WORDS = 2 * PARTS
"""Words read per step: of each part, the first block word of the first lane's fiber, and the end of
the last one's.
"""

END_BYTES = 2 * WORD_BYTES
"""Place of the end in a position entry, and of the next entry of a packed table."""

END_SHIFT = (END_BYTES - 1).bit_length()

PART_WEIGHT_BITS = WEIGHT_BITS - 1
"""Bits of a part's weight, which saturates, so that two of them can be added."""

PLACED = data.StructLayout(
    {"present": LANES, "counted": LANES, "base": POSITION_BITS, "number": COORDINATE_BITS}
)
"""Where a block's fibers are: that of a lane at ``base + number`` and the number of ``counted``
lanes below it, if it is ``present``.
"""


class Weigher(wiring.Component):
    """Splits each block into chunks, and weighs them.

    Lanes are taken in steps of two parts, ascending. A part is a lane; with ``share.wide`` it is
    two lanes if the fibers lie one behind the other, in a packed table that row 0 does not scan.
    With a ``share.quantum`` of 0 or 1, every lane is a step. A part's weight is the number of block
    words of the fibers that the first loop below row 0 scans (`WeighedLevel`), from its first
    lane's to its last one's, at least 1 and at most ``2**15 - 1``. A table that runs backwards
    counts as an empty fiber, and so does an absent operand. Only words that the scanner itself
    reads later are read. If there is no such level, nothing is read and every part weighs 1.

    A chunk ends when its weight, which saturates, has reached ``share.quantum``, or with its block.
    ``item.last`` is set in the last block's last chunk. If the PEs do not share out the rows
    (``share.rows`` is 0), a block is one chunk, whose weight is 0.

    A step per cycle, as long as replies arrive at that rate; ``config.fifo_depth`` blocks wait for
    theirs. From a block to its first request it takes four cycles, from its last reply to its last
    chunk four. ``kernel`` must be constant from two cycles before the first block on.

    Golden function: `loopnest_sim.model.weigh.chunks`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "kernel": In(kernel_layout(config)),
                "i": In(stream.Signature(joined(config, 1))),
                "request": Out(stream.Signature(gather_request(WORDS))),
                "reply": In(stream.Signature(gather_reply(WORDS))),
                "o": Out(stream.Signature(chunk(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.level = level = WeighedLevel(config)
        m.submodules.asking = asking = Pairs(PLACED)
        m.submodules.waiting = waiting = Queue(joined(config, 1), config.fifo_depth)
        m.submodules.cutting = cutting = Pairs(joined(config, 1))
        wide = Signal()
        alone = Signal()
        contiguous = level.o.operand.any() & ~level.o.ranked & ~level.o.open
        m.d.comb += [
            level.kernel.eq(self.kernel),
            alone.eq(~self.kernel.share.quantum[1:].any()),
            wide.eq(contiguous & self.kernel.share.wide & ~alone),
            # Every block goes both ways: its steps are requested now, and taken with the replies.
            asking.i.valid.eq(self.i.valid & waiting.i.ready),
            waiting.i.valid.eq(self.i.valid & asking.i.ready),
            waiting.i.payload.eq(self.i.payload),
            self.i.ready.eq(asking.i.ready & waiting.i.ready),
            cutting.i.valid.eq(waiting.o.valid),
            waiting.o.ready.eq(cutting.i.ready),
            asking.i.payload.rider.eq(self._place(level.o)),
            cutting.i.payload.rider.eq(waiting.o.payload),
        ]
        for pairs, item in ((asking, self.i.payload), (cutting, waiting.o.payload)):
            m.d.comb += [
                pairs.i.payload.lanes.eq(Mux(item.count == 0, 0, item.block[0].lanes)),
                pairs.i.payload.whole.eq(~self.kernel.share.rows),
                pairs.i.payload.wide.eq(wide),
                pairs.i.payload.alone.eq(alone),
            ]
        self._ask(m, asking.o, level.o)
        self._cut(m, cutting.o, self._weigh(m))
        return m

    def _place(self, level: data.View) -> Value:
        """Return where the block's fibers are, as `PLACED`."""
        item = self.i.payload
        block = item.block[0]

        def of_operand(values: Any) -> Value:
            return one_of((level.operand[o], values[o]) for o in range(self._config.operands))

        mask = Mux(level.masked, of_operand(block.mask), -1)[:LANES]
        return Cat(
            Mux(level.operand.any(), mask, 0),
            Mux(level.ranked, mask, -1)[:LANES],
            Mux(level.ranked, of_operand(item.child), level.start),
            Mux(level.ranked, of_operand(block.rank), Cat(Const(0, 4), block.coordinate)),
        )

    def _ask(self, m: Module, pairs: Any, level: data.View) -> None:
        """Request the words of each step: number, position and address take a cycle each."""
        step, placed = pairs.payload, pairs.payload.rider
        request = payload_register(m, self.request)
        advance = Signal()
        number_valid = Signal()
        number_present = Signal(PARTS)
        base = Signal(POSITION_BITS, reset_less=True)
        position_valid = Signal()
        position_present = Signal(PARTS)
        m.d.comb += [
            advance.eq(~self.request.valid | self.request.ready),
            pairs.ready.eq(advance),
        ]
        with m.If(advance):
            m.d.sync += [
                number_valid.eq(pairs.valid),
                number_present.eq(Cat((placed.present & one).any() for one in step.first)),
                base.eq(placed.base + placed.number),
                position_valid.eq(number_valid),
                position_present.eq(number_present),
                self.request.valid.eq(position_valid),
                request.valid.eq(Cat(bit.replicate(2) for bit in position_present)),
            ]
        table = Cat(Const(0, LINE_SHIFT - END_SHIFT), level.table[LINE_SHIFT:])
        for n in range(PARTS):
            lower = Signal(LANES, name=f"lower_{n}")
            number = Signal(range(LANES), name=f"number_{n}", reset_less=True)
            position = Signal(POSITION_BITS, name=f"position_{n}", reset_less=True)
            # Entries from that of the first lane to that of the last one's end.
            entries = Signal(range(LANES + 1), name=f"entries_{n}", reset_less=True)
            entries_then = Signal(range(LANES + 1), name=f"entries_then_{n}", reset_less=True)
            first = Signal(ADDRESS_BITS - END_SHIFT, name=f"first_{n}")
            m.d.comb += [
                lower.eq(placed.counted & below(step.first[n])),
                first.eq(
                    table
                    + Mux(level.open, position << (OPEN_STRIDE // PACKED_STRIDE - 1), position)
                ),
            ]
            with m.If(advance):
                m.d.sync += [
                    number.eq(sum(lower[lane] for lane in range(LANES))),
                    position.eq(base + number),
                    entries.eq(number_of(step.last[n], 4) - number_of(step.first[n], 4) + 1),
                    entries_then.eq(entries),
                    request.address[2 * n].eq(Cat(Const(0, END_SHIFT), first)),
                    request.address[2 * n + 1].eq(
                        Cat(Const(0, END_SHIFT), (first + entries_then)[: len(first)])
                    ),
                ]

    def _weigh(self, m: Module) -> Any:
        """Return the stream of the steps' weights: of the lower part alone, and of both."""
        weights = stream.Signature(
            data.StructLayout({"lower": PART_WEIGHT_BITS, "both": WEIGHT_BITS})
        ).create(path=["weights"])
        # The difference, and then the sum, take a cycle each.
        lengths_valid = Signal()
        lengths_ready = Signal()
        parts = []
        m.d.comb += [
            lengths_ready.eq(~weights.valid | weights.ready),
            self.reply.ready.eq(~lengths_valid | lengths_ready),
        ]
        with m.If(self.reply.ready):
            m.d.sync += lengths_valid.eq(self.reply.valid)
        for n in range(PARTS):
            first, end = self.reply.payload[2 * n], self.reply.payload[2 * n + 1]
            length = Signal(len(end), name=f"length_{n}", reset_less=True)
            backwards = Signal(name=f"backwards_{n}", reset_less=True)
            with m.If(self.reply.ready):
                m.d.sync += Cat(length, backwards).eq(end - first)
            part = Signal(PART_WEIGHT_BITS, name=f"part_{n}")
            with m.If(backwards | ~length.any()):
                m.d.comb += part.eq(1)
            with m.Elif(length[PART_WEIGHT_BITS:].any()):
                m.d.comb += part.eq(-1)
            with m.Else():
                m.d.comb += part.eq(length)
            parts.append(part)
        result = Signal.like(weights.payload, name="weight", reset_less=True)
        m.d.comb += weights.payload.eq(result)
        with m.If(lengths_ready):
            m.d.sync += [
                weights.valid.eq(lengths_valid),
                result.lower.eq(parts[0]),
                result.both.eq(sum(parts)),
            ]
        return weights

    def _cut(self, m: Module, pairs: Any, weights: Any) -> None:
        """Collect steps until their weight reaches the quantum."""
        step = pairs.payload
        out = payload_register(m, self.o)
        free = Signal()
        begun = Signal()
        lanes = Signal(LANES)
        weight = Signal(WEIGHT_BITS)
        missing = Signal(WEIGHT_BITS)  # the quantum without the weight, if a chunk has begun
        added = Signal(WEIGHT_BITS)
        total = Signal(WEIGHT_BITS + 1)
        still_missing = Signal(WEIGHT_BITS + 1)
        cut = Signal()
        m.d.comb += [
            free.eq(~self.o.valid | self.o.ready),
            pairs.ready.eq(free & weights.valid),
            weights.ready.eq(free & pairs.valid),
            total.eq(weight + added),
            still_missing.eq(Mux(begun, missing, self.kernel.share.quantum) - added),
            # below 0, or 0
            cut.eq(step.end | still_missing[-1] | ~still_missing.any()),
        ]
        with m.If(step.first[1].any()):
            m.d.comb += added.eq(weights.payload.both)
        with m.Elif(step.first[0].any()):
            m.d.comb += added.eq(weights.payload.lower)
        takes = pairs.valid & weights.valid & free
        with m.If(free):
            m.d.sync += [
                self.o.valid.eq(takes & cut),
                out.item.eq(step.rider),
                out.item.last.eq(step.rider.last & step.end),
                out.item.block[0].lanes.eq(lanes | step.lanes),
                out.weight.eq(total[:WEIGHT_BITS] | total[-1].replicate(WEIGHT_BITS)),
            ]
        with m.If(takes):
            m.d.sync += [
                begun.eq(~cut),
                lanes.eq(Mux(cut, 0, lanes | step.lanes)),
                weight.eq(Mux(cut, 0, total)),
                missing.eq(still_missing),
            ]
