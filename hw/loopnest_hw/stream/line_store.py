"""The line store: a line reader that keeps lines, and does not read again what it still has."""

from typing import Any

from amaranth.hdl import Assume, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BITS, LINE_BYTES, ChipConfig
from ..formal import FORMAL
from ..queue import Queue
from .line_reader import LineReader
from .pool import pool_client, ring


class LineStore(wiring.Component):
    """Gives lines by number, like `LineReader`, of which it keeps ``config.kept_lines``.

    A line's place is given by the low bits of its number; it stays until another one comes there. A
    kernel does not write what it reads, so a line is kept until the reset. Golden function:
    `loopnest_sim.model.gather.LineStore`.

    One line per cycle, read or kept. From a number to its request it takes a cycle, from the line's
    arrival to ``o`` one as well. ``config.stream_depth`` lines may be ahead of their use.

    Members
    -------
    i : stream of LINE_BITS, in
        No number follows the same one.
    o : stream of lines, out
    ring, pool
        As `LineReader`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(LINE_BITS)),
                "o": Out(stream.Signature(8 * LINE_BYTES)),
                "ring": In(ring(config)),
                "pool": Out(pool_client(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        kept_lines = self._config.kept_lines
        place_bits = (kept_lines - 1).bit_length()
        order = data.StructLayout({"kept": 1, "place": place_bits})
        m.submodules.reader = reader = LineReader(self._config)
        m.submodules.queue = queue = Queue(order, self._config.stream_depth)
        m.submodules.tags = tags = memory.Memory(
            shape=LINE_BITS - place_bits, depth=kept_lines, init=[]
        )
        m.submodules.lines = lines = memory.Memory(shape=8 * LINE_BYTES, depth=kept_lines, init=[])
        tag_read, tag_write = tags.read_port(transparent_for=()), tags.write_port()
        line_read, line_write = lines.read_port(transparent_for=()), lines.write_port()
        wiring.connect(m, reader.pool, wiring.flipped(self.pool))
        m.d.comb += reader.ring.eq(self.ring)

        # what is kept once all lines of the queue have come
        line = Signal(LINE_BITS, reset_less=True)
        waits = Signal()
        filled = Signal(kept_lines)
        replaced = Signal()  # its place took the number before it: another one
        place = line[:place_bits]
        kept = Signal()
        done = Signal()
        takes = Signal()
        m.d.comb += [
            kept.eq(filled.bit_select(place, 1) & ~replaced & (tag_read.data == line[place_bits:])),
            reader.wants.eq(waits & ~kept),
            reader.i.valid.eq(waits & ~kept & queue.i.ready),
            reader.i.payload.eq(line),
            queue.i.valid.eq(waits & (kept | reader.i.ready)),
            queue.i.payload.kept.eq(kept),
            queue.i.payload.place.eq(place),
            done.eq(queue.i.valid & queue.i.ready),
            self.i.ready.eq(~waits | done),
            takes.eq(self.i.valid & self.i.ready),
            tag_read.en.eq(takes),
            tag_read.addr.eq(self.i.payload[:place_bits]),
            tag_write.en.eq(done & ~kept),
            tag_write.addr.eq(place),
            tag_write.data.eq(line[place_bits:]),
        ]
        with m.If(self.i.ready):
            m.d.sync += waits.eq(self.i.valid)
        with m.If(takes):
            m.d.sync += [
                line.eq(self.i.payload),
                replaced.eq(tag_write.en & (tag_read.addr == place)),
            ]
        with m.If(tag_write.en):
            m.d.sync += filled.bit_select(place, 1).eq(1)

        # A kept line is read from the store a cycle before it is needed. What is stored in that
        # cycle is the line before it, hence another one.
        next_ = Signal(order, reset_less=True)
        present = Signal()
        sent = Signal()
        m.d.comb += [
            queue.o.ready.eq(~present | sent),
            line_read.en.eq(queue.o.valid & queue.o.ready & queue.o.payload.kept),
            line_read.addr.eq(queue.o.payload.place),
            self.o.valid.eq(present & (next_.kept | reader.o.valid)),
            self.o.payload.eq(Mux(next_.kept, line_read.data, reader.o.payload)),
            sent.eq(self.o.valid & self.o.ready),
            reader.o.ready.eq(present & ~next_.kept & self.o.ready),
            line_write.en.eq(sent & ~next_.kept),
            line_write.addr.eq(next_.place),
            line_write.data.eq(reader.o.payload),
        ]
        with m.If(queue.o.ready):
            m.d.sync += [present.eq(queue.o.valid), Cat(next_).eq(Cat(queue.o.payload))]

        if platform == FORMAL:
            m.d.comb += Assume(~takes | ~waits | (self.i.payload != line))
        return m
