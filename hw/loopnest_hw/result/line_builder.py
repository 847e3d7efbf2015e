"""The line builder: merges chunks of bytes into line writes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..arith.wire import wire
from ..config import ADDRESS_BITS, LINE_BYTES
from ..queue import SkidBuffer

OFFSET_BITS = ADDRESS_BITS + 5
"""Bits of a byte offset from an array's start: wide enough that an offset too large does not
wrap.
"""

LINE_NUMBER_BITS = ADDRESS_BITS - 5

PLACE_BITS = LINE_BYTES.bit_length() - 1
"""Bits of a byte's place in its line."""


def chunk(chunk_bytes: int, unit_bytes: int) -> data.StructLayout:
    """Return the layout of up to ``chunk_bytes`` bytes to write, in units of ``unit_bytes``.

    Unit k, if its strobe is set, goes to ``offset + k * unit_bytes`` bytes from the array's start;
    ``offset`` is a multiple of ``unit_bytes``. ``end`` is the offset past the last strobed byte.
    ``final``: it is the last chunk. A chunk without strobes writes nothing.
    """
    return data.StructLayout(
        {
            "offset": OFFSET_BITS,
            "end": OFFSET_BITS,
            "data": 8 * chunk_bytes,
            "strobe": chunk_bytes // unit_bytes,
            "final": 1,
        }
    )


class LineBuilder(wiring.Component):
    """Merges an array's chunks into line writes, as long as successive chunks are in the same line.

    A line is output when a chunk touches another line, and after the final chunk; bytes written
    twice have the later value. A chunk that ends beyond ``room`` is dropped whole, and ``full``
    rises.

    A chunk a cycle, as long as it makes at most one line change. A line is output in the cycle
    after the transfer of the chunk that completes it. ``i.ready`` comes from a register.

    Parameters
    ----------
    chunk_bytes : int
        Maximum bytes of a chunk, a power of two.
    unit_bytes : int
        Chunks start at multiples of it, a power of two, at most ``chunk_bytes``.
    waiting : int
        Maximum number of chunks that wait.

    Members
    -------
    base : In(27)
        Number of the array's first line.
    room : In(33)
        Size of the array's region in bytes. Both are constant while chunks arrive.
    i : In(stream.Signature(chunk(chunk_bytes, unit_bytes)))
    o : Out(stream.Signature(tokens.LINE_WRITE))
        Lines with strobes; bytes without a strobe are undefined.
    flushed : Out(1)
        The final chunk has arrived and every line is output. Stays until reset.
    full : Out(1)
        A chunk was dropped. Stays until reset.
    """

    def __init__(self, *, chunk_bytes: int, unit_bytes: int, waiting: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._unit_bytes = unit_bytes
        self._waiting = waiting
        super().__init__(
            {
                "base": In(LINE_NUMBER_BITS),
                "room": In(ADDRESS_BITS + 1),
                "i": In(stream.Signature(chunk(chunk_bytes, unit_bytes))),
                "o": Out(stream.Signature(tokens.LINE_WRITE)),
                "flushed": Out(1),
                "full": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        units = LINE_BYTES // self._unit_bytes
        shape = chunk(self._chunk_bytes, self._unit_bytes)
        m.submodules.arriving = arriving = SkidBuffer(shape, self._waiting)
        wiring.connect(m, wiring.flipped(self.i), arriving.i)
        item = arriving.o.payload

        # Place: the chunk's part in its first line, and in the next line.
        place_bits = range(self._unit_bytes.bit_length() - 1, PLACE_BITS)
        placed_valid = Signal()
        placed = Signal(
            data.StructLayout(
                {
                    "line": LINE_NUMBER_BITS,
                    "place": len(place_bits),
                    "end": OFFSET_BITS,
                    "data": 8 * self._chunk_bytes,
                    "here": units,
                    "next": units,
                    "final": 1,
                }
            ),
            reset_less=True,
        )
        placed_done = Signal()

        # Merge: into the current line.
        line_valid = Signal()
        line = Signal(
            data.StructLayout({"line": LINE_NUMBER_BITS, "data": 8 * LINE_BYTES, "strobe": units}),
            reset_less=True,
        )
        fits = Signal()
        has_here = Signal()
        has_next = Signal()
        skips = Signal()  # the chunk has nothing in its first line
        leaves = Signal()  # the current line is another one, and is output
        merges = Signal()  # the current line, if any, takes the chunk
        ends = Signal()  # the final chunk has been placed
        hand_over = Signal()
        strobe = Signal(units)  # of the line with the chunk, if it merges
        goes = Signal()
        merged = Signal(8 * LINE_BYTES)
        # Bytes beyond a line's end wrap around to its beginning, which belongs to the next line.
        moved: Value = placed.data.replicate(LINE_BYTES // self._chunk_bytes)
        for bit, k in enumerate(place_bits):
            turned = Mux(placed.place[bit], moved.rotate_left(8 << k), moved)
            moved = wire(m, f"moved_{k}", turned)
        for k in range(units):
            unit = slice(8 * self._unit_bytes * k, 8 * self._unit_bytes * (k + 1))
            m.d.comb += merged[unit].eq(Mux(placed.here[k], moved[unit], line.data[unit]))
        m.d.comb += [
            fits.eq(placed.end <= self.room),
            has_here.eq(placed.here.any() & fits),
            has_next.eq(placed.next.any() & fits),
            skips.eq(placed_valid & ~has_here & has_next),
            leaves.eq(placed_valid & has_here & line_valid & (line.line != placed.line)),
            merges.eq(placed_valid & has_here & ~leaves),
            ends.eq(placed_valid & ~has_here & ~has_next & placed.final),
            hand_over.eq(leaves | (merges & (has_next | placed.final)) | (ends & line_valid)),
            strobe.eq(Mux(merges, placed.here, 0) | Mux(line_valid, line.strobe, 0)),
            goes.eq(self.o.ready | ~hand_over),
            placed_done.eq(~skips & ~placed.final & goes & ~(leaves & has_next)),
            self.o.valid.eq(hand_over),
            self.o.payload.line.eq(self.base + Mux(line_valid, line.line, placed.line)),
            self.o.payload.data.eq(Mux(merges, merged, line.data)),
            self.o.payload.strobe.eq(Cat(s.replicate(self._unit_bytes) for s in strobe)),
        ]

        def begin(number: Value, strobe: Value) -> None:
            m.d.sync += [
                line_valid.eq(1),
                line.line.eq(number),
                line.data.eq(moved),
                line.strobe.eq(strobe),
            ]

        with m.If(skips | (leaves & goes)):
            # The part in the next line becomes the chunk to place.
            m.d.sync += [
                placed.line.eq(placed.line + 1),
                placed.here.eq(placed.next),
                placed.next.eq(0),
            ]
        with m.If(leaves & goes):
            begin(placed.line, placed.here)
        with m.If(merges & goes):
            m.d.sync += [
                line_valid.eq(1),
                line.line.eq(placed.line),
                line.data.eq(merged),
                line.strobe.eq(strobe),
                placed.here.eq(0),
                placed.next.eq(0),
            ]
            with m.If(has_next):
                begin((placed.line + 1)[:LINE_NUMBER_BITS], placed.next)
            with m.Elif(placed.final):
                m.d.sync += line_valid.eq(0)
        with m.If(ends & goes):
            # Everything is output only once the last line has left, too.
            m.d.sync += [line_valid.eq(0), self.flushed.eq(~line_valid)]
        with m.If(placed_valid & (placed.here.any() | placed.next.any()) & ~fits):
            m.d.sync += self.full.eq(1)

        # The next chunk is assigned last: it overrides the rest of the previous one.
        m.d.comb += arriving.o.ready.eq(~placed_valid | placed_done)
        with m.If(arriving.o.ready):
            m.d.sync += placed_valid.eq(arriving.o.valid)
        with m.If(arriving.o.valid & arriving.o.ready):
            m.d.sync += [
                placed.line.eq(item.offset[PLACE_BITS:]),
                placed.place.eq(item.offset[place_bits.start : PLACE_BITS]),
                placed.end.eq(item.end),
                placed.data.eq(item.data),
                Cat(placed.here, placed.next).eq(
                    item.strobe << item.offset[place_bits.start : PLACE_BITS]
                ),
                placed.final.eq(item.final),
            ]
        return m
