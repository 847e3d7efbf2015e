"""A gather: answers requests for items at any addresses, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BITS, LINE_BYTES, LINE_SHIFT, WIDE_BITS, ChipConfig
from ..format import LINE_WORDS, WORD_BYTES
from ..queue import Queue
from ..register import payload_register
from ..tokens import gather_reply, gather_request
from ..unary import at_least
from .line_reader import LineReader
from .line_store import LineStore, given, numbered
from .pool import pool_client, ring

WORD_SHIFT = (WORD_BYTES - 1).bit_length()


@dataclass(frozen=True)
class Known:
    """What is known of a lane's addresses: their ``bits`` lowest bits are ``value``.

    Fewer words of a line remain to choose from, and fewer bits to shift by.
    """

    bits: int
    value: int = 0


def serving(known: Sequence[Known]) -> data.StructLayout:
    """What the requesting side did in a cycle, along with the line that it takes, if any; the
    answering side repeats it.

    Each ``valid`` lane's item is at ``offset`` (without the bits that are known) in the current
    line or, with ``fresh``, in the one that is taken, which replaces it. ``end``: the step is
    complete.
    """
    lanes = {
        f"lane_{n}": data.StructLayout({"valid": 1, "fresh": 1, "offset": LINE_SHIFT - lane.bits})
        for n, lane in enumerate(known)
    }
    return data.StructLayout({"end": 1, **lanes})


class Gather(wiring.Component):
    """Answers every step's request with its lanes' items, in order.

    An item is the contents of its aligned 32-bit word from the address on, extended with zeros; a
    lane that is not valid is 0. Steps without lanes are answered too.

    Lanes are processed in order, and a line is taken whenever a lane's line differs from that of
    the lane before, across steps too: from memory, or, if lines are ``kept``, from the `LineStore`.
    The requesting side sends at most one line per cycle, so it
    handles one step per cycle, or a step with n > 1 new lines in n cycles. It runs ahead of the
    answering side by ``config.stream_depth`` such cycles and by the ring's lines. The answering
    side takes the same number of cycles: one step per cycle is sustained even if each has a new
    line.

    From a step to its line's request: 1 cycle, or 2 if lines are kept; from the line's arrival to
    the reply: 2.

    There is a lane for each item of ``known``. Bits of an address that are known are ignored.

    ``ring`` may change only until the first step, and is used from the step's cycle on. A line is
    requested only when its slot is free, so no answer is ever refused; slots are used in ring
    order.
    """

    def __init__(self, config: ChipConfig, known: Sequence[Known], *, kept: bool = False) -> None:
        self._config = config
        self._known = known
        self._kept = kept
        self._lanes = lanes = len(known)
        super().__init__(
            {
                "i": In(stream.Signature(gather_request(lanes))),
                "o": Out(stream.Signature(gather_reply(lanes))),
                "ring": In(ring(config)),
                "pool": Out(pool_client(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rider = serving(self._known)
        asked = stream.Signature(numbered(rider)).create(path=["asked"])
        lines = stream.Signature(given(rider)).create(path=["lines"])
        if self._kept:
            m.submodules.store = store = LineStore(self._config, rider)
            wiring.connect(m, asked, store.i)
            wiring.connect(m, store.o, wiring.flipped(lines))
            wiring.connect(m, store.pool, wiring.flipped(self.pool))
            m.d.comb += store.ring.eq(self.ring)
        else:
            self._read(m, asked, lines)
        self._ask(m, asked)
        self._use(m, lines)
        return m

    def _read(self, m: Module, asked: Any, lines: Any) -> None:
        """Read every line that is asked for."""
        work_shape = data.StructLayout({"take": 1, "rider": serving(self._known)})
        m.submodules.work = work = Queue(work_shape, self._config.stream_depth)
        m.submodules.lines = reader = LineReader(self._config)
        wiring.connect(m, reader.pool, wiring.flipped(self.pool))
        take, taken = asked.payload.take, work.o.payload.take
        m.d.comb += [
            reader.ring.eq(self.ring),
            reader.wants.eq(asked.valid & take),
            reader.i.valid.eq(asked.valid & take & work.i.ready),
            reader.i.payload.eq(asked.payload.line),
            work.i.valid.eq(asked.valid & (~take | reader.i.ready)),
            work.i.payload.take.eq(take),
            work.i.payload.rider.eq(asked.payload.rider),
            asked.ready.eq(work.i.ready & (~take | reader.i.ready)),
            lines.valid.eq(work.o.valid & (~taken | reader.o.valid)),
            lines.payload.take.eq(taken),
            lines.payload.line.eq(reader.o.payload),
            lines.payload.rider.eq(work.o.payload.rider),
            work.o.ready.eq(lines.valid & lines.ready),
            reader.o.ready.eq(lines.valid & lines.ready & taken),
        ]

    def _ask(self, m: Module, asked: Any) -> None:
        """Turn steps into numbers of lines, and work for the answering side."""
        step = self.i.payload
        lanes = range(self._lanes)

        # Which lanes need a new line depends on addresses alone. It is computed when a step enters,
        # so that the loop below, which runs once for each new line, works on bits only.
        busy = Signal()
        pending = Signal(self._lanes)
        new = Signal(self._lanes)
        some = Signal()  # of `new`, and
        several = Signal()
        line = [Signal(LINE_BITS, name=f"line_{n}", reset_less=True) for n in lanes]
        offset = [
            Signal(LINE_SHIFT - known.bits, name=f"offset_{n}", reset_less=True)
            for n, known in enumerate(self._known)
        ]
        last = Signal(LINE_BITS)
        known = Signal()
        done = Signal()
        m.d.comb += self.i.ready.eq(~busy | done)
        with m.If(self.i.ready):
            m.d.sync += busy.eq(self.i.valid)
        before = [Signal(LINE_BITS, name=f"before_{n}") for n in range(self._lanes + 1)]
        compares = Signal(self._lanes + 1)
        arriving = Signal(self._lanes)
        m.d.comb += [before[0].eq(last), compares[0].eq(known)]
        for n in lanes:
            this = step.address[n][LINE_SHIFT:]
            m.d.comb += [
                before[n + 1].eq(Mux(step.valid[n], this, before[n])),
                compares[n + 1].eq(known | step.valid[: n + 1].any()),
                arriving[n].eq(step.valid[n] & (~compares[n] | (this != before[n]))),
            ]
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += [
                    line[n].eq(this),
                    offset[n].eq(step.address[n][self._known[n].bits : LINE_SHIFT]),
                ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                pending.eq(step.valid),
                new.eq(arriving),
                some.eq(arriving.any()),
                several.eq(at_least(m, "arriving", arriving, 2)[-1][2]),
                last.eq(before[-1]),
                known.eq(compares[-1]),
            ]

        # In each cycle, the lanes before the first new line use the current line, and those up to
        # the second new line use the line being requested.
        reached = Signal(self._lanes)
        first = Signal(self._lanes)
        later = Signal(self._lanes)
        served = Signal(self._lanes)
        m.d.comb += [
            first.eq(new & ~(reached << 1)),
            later.eq(new & ~first),
            asked.valid.eq(busy),
            asked.payload.take.eq(some),
            asked.payload.rider.end.eq(~several),
            done.eq(busy & asked.ready & ~several),
        ]
        for n in lanes:
            lane = asked.payload.rider[f"lane_{n}"]
            m.d.comb += [
                reached[n].eq(new[: n + 1].any()),
                served[n].eq(~later[: n + 1].any()),
                lane.valid.eq(pending[n] & served[n]),
                lane.fresh.eq(reached[n]),
                lane.offset.eq(offset[n]),
            ]
            with m.If(first[n]):
                m.d.comb += asked.payload.line.eq(line[n])
        with m.If(busy & asked.ready & several):
            m.d.sync += [
                pending.eq(pending & ~served),
                new.eq(later),
                several.eq(at_least(m, "new", new, 3)[-1][3]),
            ]

    def _use(self, m: Module, lines: Any) -> None:
        """Take the items from the lines."""
        fresh, work = lines.payload.line, lines.payload.rider
        current = Signal(8 * LINE_BYTES, reset_less=True)
        works = Signal()
        with m.If(works & lines.payload.take):
            m.d.sync += current.eq(fresh)

        item = Signal(gather_reply(self._lanes))
        for n, known in enumerate(self._known):
            lane = work[f"lane_{n}"]
            # the words of a line that remain to choose from, and the bits that choose
            words = range(
                known.value >> WORD_SHIFT, LINE_WORDS, max(1, 1 << known.bits >> WORD_SHIFT)
            )
            choice = lane.offset[max(0, WORD_SHIFT - known.bits) :]

            def word(line: Value, words: range = words, choice: Value = choice) -> Value:
                return Array(line.word_select(n, WIDE_BITS) for n in words)[choice]

            low = Cat(Const(known.value, known.bits), lane.offset)[:WORD_SHIFT]
            found = Signal(WIDE_BITS, name=f"found_{n}")
            m.d.comb += found.eq(Mux(lane.fresh, word(fresh), word(current)))
            with m.If(lane.valid):
                m.d.comb += item[n].eq(found >> (low << 3))

        # A step's lanes are collected at the output; its first part clears the others.
        reply = payload_register(m, self.o)
        opens = Signal(init=1)
        room = Signal()
        m.d.comb += [
            room.eq(~self.o.valid | self.o.ready),
            lines.ready.eq(room),
            works.eq(lines.valid & room),
        ]
        with m.If(room):
            m.d.sync += self.o.valid.eq(works & work.end)
        with m.If(works):
            m.d.sync += opens.eq(work.end)
            for n in range(self._lanes):
                with m.If(work[f"lane_{n}"].valid | opens):
                    m.d.sync += reply[n].eq(item[n])
