"""The check that a kernel does not read where it writes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, LINE_BYTES, ChipConfig
from ..kernel import kernel_layout

LINE_SHIFT = (LINE_BYTES - 1).bit_length()
LINE_BITS = ADDRESS_BITS - LINE_SHIFT

REGIONS = ("blocks", "values", "table")
"""The result's regions, by their number in an error's ``where``."""

FOUND = data.StructLayout({"valid": 1, "where": range(len(REGIONS))})


class OverlapWatch(wiring.Component):
    """Finds the first line read that lies in a region of the result, with a latency of three
    cycles.

    A kernel's regions are checked from the second cycle of its run to the second cycle of the next
    kernel's: the next descriptor must not lie in them either, since it may be read before they are
    written. An operand shares no line with a region, since each array starts at a line. A dense
    result has only values.

    Members
    -------
    result : In
        The descriptor's member of this name, constant while ``running``.
    running : In(1)
    clear : In(1)
        A run of kernels starts: no region is checked, and ``found`` is cleared.
    read : In(1), address : In(32)
        A line is requested on the bus in this cycle.
    found : Out(FOUND)
        A region was read; ``where`` is its number in `REGIONS`. Stays until ``clear``.
    """

    def __init__(self, config: ChipConfig) -> None:
        super().__init__(
            {
                "result": In(kernel_layout(config).members["result"]),
                "running": In(1),
                "clear": In(1),
                "read": In(1),
                "address": In(ADDRESS_BITS),
                "found": Out(FOUND),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line = Signal(LINE_BITS)
        valid = Signal()
        m.d.sync += [line.eq(self.address[LINE_SHIFT:]), valid.eq(self.read)]

        inside = Signal(len(REGIONS))
        for number, name in enumerate(REGIONS):
            begin: Value = self.result[name]
            end: Value = self.result[f"{name}_end"]
            first = Signal(LINE_BITS, name=f"{name}_first")
            # the line after the last one, which may be beyond the memory's last line
            behind = Signal(LINE_BITS + 1, name=f"{name}_behind")
            with m.If(self.clear):
                m.d.sync += behind.eq(0)
            with m.Elif(self.running):
                there = 1 if name == "values" else self.result.compressed
                m.d.sync += [
                    first.eq(begin[LINE_SHIFT:]),
                    behind.eq(Mux(there, (end + (LINE_BYTES - 1))[LINE_SHIFT:], 0)),
                ]
            m.d.sync += inside[number].eq(valid & (line >= first) & (line < behind))

        with m.If(self.clear):
            m.d.sync += self.found.eq(0)
        with m.Elif(inside.any() & ~self.found.valid):
            m.d.sync += [self.found.valid.eq(1), self.found.where.eq(Cat(inside[1], inside[2]))]
        return m
