"""The check that a kernel does not read where it writes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, LINE_BITS, LINE_BYTES, LINE_SHIFT, ChipConfig
from ..kernel import kernel_layout
from ..registers import snapshot_lines

REGIONS = ("blocks", "values", "table", "counters")
"""What a kernel writes, by its number in an error's ``where``."""

FOUND = data.StructLayout({"valid": 1, "where": range(len(REGIONS))})


class OverlapWatch(wiring.Component):
    """Finds the first line read that lies in a region of the result or of the counters, with a
    latency of three cycles.

    A kernel's regions are checked from the second cycle of its run to the second cycle of the next
    kernel's: the next descriptor must not lie in them either, since it is read before they are
    written. It is found separately: it does not concern the kernel that runs. An operand shares no
    line with a region, since each array starts at a line. A dense result has only values.

    Members
    -------
    result, counters : In
        The descriptor's members of these names, constant while ``running``.
    running : In(1)
    clear : In(1)
        A run of kernels starts: no region is checked, and ``found`` is cleared.
    read : In(1), address : In(32), descriptor : In(1)
        A line is requested on the bus in this cycle; whether by the command processor.
    found, next_found : Out(FOUND)
        A region was read, by a kernel or for the next descriptor; ``where`` is its number in
        `REGIONS`. Stays until ``clear``.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._counters_bytes = snapshot_lines(config.pes) * LINE_BYTES
        super().__init__(
            {
                "result": In(kernel_layout(config).members["result"]),
                "counters": In(ADDRESS_BITS),
                "running": In(1),
                "clear": In(1),
                "read": In(1),
                "address": In(ADDRESS_BITS),
                "descriptor": In(1),
                "found": Out(FOUND),
                "next_found": Out(FOUND),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line = Signal(LINE_BITS)
        valid = Signal()
        descriptor = Signal()
        m.d.sync += [
            line.eq(self.address[LINE_SHIFT:]),
            valid.eq(self.read),
            descriptor.eq(self.descriptor),
        ]

        inside = Signal(len(REGIONS))
        for_next = Signal()
        m.d.sync += for_next.eq(descriptor)
        for number, name in enumerate(REGIONS):
            begin, end, there = self._region(name)
            first = Signal(LINE_BITS, name=f"{name}_first")
            # the line after the last one, which may be beyond the memory's last line
            behind = Signal(LINE_BITS + 1, name=f"{name}_behind")
            with m.If(self.clear):
                m.d.sync += behind.eq(0)
            with m.Elif(self.running):
                m.d.sync += [
                    first.eq(begin[LINE_SHIFT:]),
                    behind.eq(Mux(there, (end + (LINE_BYTES - 1))[LINE_SHIFT:], 0)),
                ]
            m.d.sync += inside[number].eq(valid & (line >= first) & (line < behind))

        # At most one is set: regions share no line.
        where = Cat(inside[1] | inside[3], inside[2] | inside[3])
        for found, concerned in ((self.found, ~for_next), (self.next_found, for_next)):
            with m.If(self.clear):
                m.d.sync += found.eq(0)
            with m.Elif(inside.any() & concerned & ~found.valid):
                m.d.sync += [found.valid.eq(1), found.where.eq(where)]
        return m

    def _region(self, name: str) -> tuple[Value, Value, Value]:
        """Return a region's first address, its end, and whether there is one."""
        if name == "counters":
            end = self.counters + self._counters_bytes
            return self.counters, end, self.counters.any()
        there = Value.cast(1) if name == "values" else self.result.compressed
        return self.result[name], self.result[f"{name}_end"], there
