"""The line builder: merges chunks of bytes into line writes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..config import ADDRESS_BITS, LINE_BYTES
from ..queue import Queue

OFFSET_BITS = ADDRESS_BITS + 5
"""Bits of a byte offset from an array's start: wide enough that an offset too large does not
wrap.
"""

LINE_NUMBER_BITS = ADDRESS_BITS - 5

PLACE_BITS = LINE_BYTES.bit_length() - 1
"""Bits of a byte's place in its line."""


def chunk(chunk_bytes: int) -> data.StructLayout:
    """Return the layout of up to ``chunk_bytes`` bytes to write.

    Byte k, if its strobe is set, goes to ``offset + k`` bytes from the array's start. ``end`` is
    the offset past the last strobed byte. ``final``: it is the last chunk. A chunk without strobes
    writes nothing.
    """
    return data.StructLayout(
        {
            "offset": OFFSET_BITS,
            "end": OFFSET_BITS,
            "data": 8 * chunk_bytes,
            "strobe": chunk_bytes,
            "final": 1,
        }
    )


class LineBuilder(wiring.Component):
    """Merges an array's chunks into line writes, as long as successive chunks are in the same line.

    A line is output when a chunk touches another line, and after the final chunk; bytes written
    twice have the later value. A chunk that ends beyond ``room`` is dropped whole, and ``full``
    rises.

    A chunk a cycle, as long as it makes at most one line change. Latency from a chunk to the line
    that it completes is three cycles: place in line, merge, output. ``i.ready`` comes from a
    register.

    Parameters
    ----------
    chunk_bytes : int
        Maximum bytes of a chunk, a power of two.
    unit_bytes : int
        Chunks start at multiples of it, a power of two, at most ``chunk_bytes``.

    Members
    -------
    base : In(27)
        Number of the array's first line.
    room : In(33)
        Size of the array's region in bytes. Both are constant while chunks arrive.
    i : In(stream.Signature(chunk(chunk_bytes)))
    o : Out(stream.Signature(tokens.LINE_WRITE))
        Lines with strobes; bytes without a strobe are undefined.
    flushed : Out(1)
        The final chunk has arrived and every line is output. Stays until reset.
    full : Out(1)
        A chunk was dropped. Stays until reset.
    """

    def __init__(self, *, chunk_bytes: int, unit_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._unit_bytes = unit_bytes
        super().__init__(
            {
                "base": In(LINE_NUMBER_BITS),
                "room": In(ADDRESS_BITS + 1),
                "i": In(stream.Signature(chunk(chunk_bytes))),
                "o": Out(stream.Signature(tokens.LINE_WRITE)),
                "flushed": Out(1),
                "full": Out(1),
            }
        )

    def _place(self, offset: Value, content: Value, strobe: Value) -> tuple[Value, Value]:
        """Return the bytes, rotated to their place in a line, and the strobes of two lines."""
        steps = range(self._unit_bytes.bit_length() - 1, PLACE_BITS)
        line = content.replicate(LINE_BYTES // self._chunk_bytes)
        strobe = Cat(strobe, Value.cast(0).replicate(2 * LINE_BYTES - self._chunk_bytes))
        for k in steps:
            # Bytes beyond a line's end wrap around to its beginning, which belongs to the next
            # line.
            line = Mux(offset[k], line.rotate_left(8 << k), line)
            strobe = Mux(offset[k], strobe.rotate_left(1 << k), strobe)
        return line, strobe

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.queue = queue = Queue(chunk(self._chunk_bytes), 2)
        wiring.connect(m, wiring.flipped(self.i), queue.i)
        item = queue.o.payload

        # Place: the chunk in its line, and its part in the next line.
        placed_valid = Signal()
        placed = Signal(
            data.StructLayout(
                {
                    "line": LINE_NUMBER_BITS,
                    "data": 8 * LINE_BYTES,
                    "here": LINE_BYTES,
                    "next": LINE_BYTES,
                    "final": 1,
                }
            )
        )
        placed_done = Signal()
        moved, strobes = self._place(item.offset, item.data, item.strobe)
        fits = Signal()
        m.d.comb += fits.eq(item.end <= self.room)

        # Merge: into the current line.
        line_valid = Signal()
        line = Signal(tokens.LINE_WRITE)
        has_here = placed.here.any()
        has_next = placed.next.any()
        skips = Signal()  # the chunk has nothing in its first line
        leaves = Signal()  # the current line is another one, and is output
        merges = Signal()  # the current line, if any, takes the chunk
        ends = Signal()  # the final chunk has been placed
        hand_over = Signal()
        handed = Signal(tokens.LINE_WRITE)
        room = Signal()
        merged = Signal(8 * LINE_BYTES)
        for k in range(LINE_BYTES):
            byte = slice(8 * k, 8 * k + 8)
            m.d.comb += merged[byte].eq(Mux(placed.here[k], placed.data[byte], line.data[byte]))
        m.d.comb += [
            skips.eq(placed_valid & ~has_here & has_next),
            leaves.eq(placed_valid & has_here & line_valid & (line.line != placed.line)),
            merges.eq(placed_valid & has_here & ~leaves),
            ends.eq(placed_valid & ~has_here & ~has_next & placed.final),
            hand_over.eq(leaves | (merges & (has_next | placed.final)) | (ends & line_valid)),
            handed.line.eq(Mux(merges, placed.line, line.line)),
            handed.data.eq(Mux(merges, merged, line.data)),
            handed.strobe.eq(Mux(merges, placed.here, 0) | Mux(line_valid, line.strobe, 0)),
            room.eq(~self.o.valid | self.o.ready),
            placed_done.eq(~skips & ~placed.final & (room | ~hand_over) & ~(leaves & has_next)),
        ]

        def begin(number: Value, strobe: Value) -> None:
            m.d.sync += [
                line_valid.eq(1),
                line.line.eq(number),
                line.data.eq(placed.data),
                line.strobe.eq(strobe),
            ]

        with m.If(skips | (leaves & room)):
            # The part in the next line becomes the chunk to place.
            m.d.sync += [
                placed.line.eq(placed.line + 1),
                placed.here.eq(placed.next),
                placed.next.eq(0),
            ]
        with m.If(leaves & room):
            begin(placed.line, placed.here)
        with m.If(merges & (room | ~hand_over)):
            m.d.sync += [
                line_valid.eq(1),
                line.line.eq(placed.line),
                line.data.eq(merged),
                line.strobe.eq(handed.strobe),
                placed.here.eq(0),
                placed.next.eq(0),
            ]
            with m.If(has_next):
                begin((placed.line + 1)[:LINE_NUMBER_BITS], placed.next)
            with m.Elif(placed.final):
                m.d.sync += line_valid.eq(0)
        with m.If(ends & room):
            # Everything is output only once the last line has left, too.
            m.d.sync += [line_valid.eq(0), self.flushed.eq(~line_valid)]

        with m.If(room):
            m.d.sync += self.o.valid.eq(hand_over)
            m.d.sync += self.o.payload.eq(handed)

        # The next chunk is assigned last: it overrides the rest of the previous one.
        m.d.comb += queue.o.ready.eq(~placed_valid | placed_done)
        with m.If(queue.o.ready):
            m.d.sync += placed_valid.eq(queue.o.valid)
            m.d.sync += [
                placed.line.eq(self.base + item.offset[PLACE_BITS:]),
                placed.data.eq(moved),
                placed.here.eq(Mux(fits, strobes[:LINE_BYTES], 0)),
                placed.next.eq(Mux(fits, strobes[LINE_BYTES:], 0)),
                placed.final.eq(item.final),
            ]
            with m.If(queue.o.valid & item.strobe.any() & ~fits):
                m.d.sync += self.full.eq(1)
        return m
