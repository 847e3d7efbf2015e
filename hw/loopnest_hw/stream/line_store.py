"""The line store: a line reader that keeps lines, and does not read again what it still has."""

from typing import Any

from amaranth.hdl import Assume, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BITS, LINE_BYTES, ChipConfig
from ..formal import FORMAL
from ..queue import Queue
from .line_reader import LineReader
from .pool import pool_client, ring


def numbered(rider: ShapeLike) -> data.StructLayout:
    """A line's number, if one is to be taken, and what goes along with it."""
    return data.StructLayout({"take": 1, "line": LINE_BITS, "rider": rider})


def given(rider: ShapeLike) -> data.StructLayout:
    """The line itself, and the same. Without ``take``, ``line`` is undefined."""
    return data.StructLayout({"take": 1, "line": 8 * LINE_BYTES, "rider": rider})


class LineStore(wiring.Component):
    """Gives lines by number, like `LineReader`, of which it keeps ``config.kept_lines``.

    A line's place is given by the low bits of its number; it stays until another one comes there. A
    kernel does not write what it reads, so a line is kept until the reset. Golden function:
    `loopnest_sim.model.gather.LineStore`.

    One item per cycle, its line read, kept or not taken. From a number to its request it takes a
    cycle, from the line's arrival to ``o`` one as well. ``config.stream_depth`` items may be ahead
    of their use.

    Members
    -------
    i : stream of `numbered`, in
        No number follows the same one.
    o : stream of `given`, out
    ring, pool
        As `LineReader`.
    """

    def __init__(self, config: ChipConfig, rider: ShapeLike) -> None:
        self._config = config
        self._rider = rider
        super().__init__(
            {
                "i": In(stream.Signature(numbered(rider))),
                "o": Out(stream.Signature(given(rider))),
                "ring": In(ring(config)),
                "pool": Out(pool_client(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        kept_lines = self._config.kept_lines
        place_bits = (kept_lines - 1).bit_length()
        ahead = data.StructLayout({"read": 1, "kept": 1, "place": place_bits, "rider": self._rider})
        m.submodules.reader = reader = LineReader(self._config)
        m.submodules.queue = queue = Queue(ahead, self._config.stream_depth)
        m.submodules.tags = tags = memory.Memory(
            shape=LINE_BITS - place_bits, depth=kept_lines, init=[]
        )
        m.submodules.lines = lines = memory.Memory(shape=8 * LINE_BYTES, depth=kept_lines, init=[])
        tag_read, tag_write = tags.read_port(transparent_for=()), tags.write_port()
        line_read, line_write = lines.read_port(transparent_for=()), lines.write_port()
        wiring.connect(m, reader.pool, wiring.flipped(self.pool))
        m.d.comb += reader.ring.eq(self.ring)

        # what is kept once all lines of the queue have come
        item = Signal(numbered(self._rider), reset_less=True)
        waits = Signal()
        filled = Signal(kept_lines)
        replaced = Signal()  # its place took the number before it: another one
        place = item.line[:place_bits]
        tag = item.line[place_bits:]
        found = Signal()
        done = Signal()
        takes = Signal()
        m.d.comb += [
            found.eq(filled.bit_select(place, 1) & ~replaced & (tag_read.data == tag)),
            queue.i.payload.read.eq(item.take & ~found),
            queue.i.payload.kept.eq(item.take & found),
            queue.i.payload.place.eq(place),
            queue.i.payload.rider.eq(item.rider),
            reader.wants.eq(waits & queue.i.payload.read),
            reader.i.valid.eq(waits & queue.i.payload.read & queue.i.ready),
            reader.i.payload.eq(item.line),
            queue.i.valid.eq(waits & (~queue.i.payload.read | reader.i.ready)),
            done.eq(queue.i.valid & queue.i.ready),
            self.i.ready.eq(~waits | done),
            takes.eq(self.i.valid & self.i.ready),
            tag_read.en.eq(takes),
            tag_read.addr.eq(self.i.payload.line[:place_bits]),
            tag_write.en.eq(done & queue.i.payload.read),
            tag_write.addr.eq(place),
            tag_write.data.eq(tag),
        ]
        with m.If(self.i.ready):
            m.d.sync += waits.eq(self.i.valid)
        with m.If(takes):
            m.d.sync += [
                item.eq(self.i.payload),
                replaced.eq(tag_write.en & (tag_read.addr == place)),
            ]
        with m.If(tag_write.en):
            m.d.sync += filled.bit_select(place, 1).eq(1)

        # A kept line is read from the store a cycle before it is needed. What is stored in that
        # cycle is the line before it, hence another one.
        next_ = Signal(ahead, reset_less=True)
        present = Signal()
        sent = Signal()
        m.d.comb += [
            queue.o.ready.eq(~present | sent),
            line_read.en.eq(queue.o.valid & queue.o.ready & queue.o.payload.kept),
            line_read.addr.eq(queue.o.payload.place),
            self.o.valid.eq(present & (~next_.read | reader.o.valid)),
            self.o.payload.take.eq(next_.read | next_.kept),
            self.o.payload.line.eq(Mux(next_.read, reader.o.payload, line_read.data)),
            self.o.payload.rider.eq(next_.rider),
            sent.eq(self.o.valid & self.o.ready),
            reader.o.ready.eq(present & next_.read & self.o.ready),
            line_write.en.eq(sent & next_.read),
            line_write.addr.eq(next_.place),
            line_write.data.eq(reader.o.payload),
        ]
        with m.If(queue.o.ready):
            m.d.sync += [present.eq(queue.o.valid), next_.eq(queue.o.payload)]

        if platform == FORMAL:
            both = takes & waits & self.i.payload.take & item.take
            m.d.comb += Assume(~both | (self.i.payload.line != item.line))
        return m
