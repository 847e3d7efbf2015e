"""The snapshot writer: writes the counters to memory at the end of a kernel."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, LINE_BITS, LINE_BYTES, LINE_SHIFT, ChipConfig
from ..registers import snapshot_lines
from ..tokens import LINE_WRITE


class SnapshotWriter(wiring.Component):
    """Writes the lines of `Counters`, in order, from ``address`` on.

    The first line is output two cycles after ``start``: the counters have no event left to count by
    then.

    Members
    -------
    start : In(1)
        A kernel ends; only while not ``busy``.
    address : In(32)
        Byte address of a line, read at the start; 0: nothing is written.
    stop : In(1)
        Withdraws the lines that are not written yet.
    busy : Out(1)
    number : Out(range(`registers.snapshot_lines`)), content : In(256)
        `Counters` gives this line's content within the cycle.
    o : Out(stream.Signature(tokens.LINE_WRITE))
    """

    def __init__(self, config: ChipConfig) -> None:
        self._lines = snapshot_lines(config.pes)
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "stop": In(1),
                "busy": Out(1),
                "number": Out(range(self._lines)),
                "content": In(8 * LINE_BYTES),
                "o": Out(stream.Signature(LINE_WRITE)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line = Signal(LINE_BITS)
        ready = Signal()  # the counters are
        last = self.number == self._lines - 1
        m.d.comb += [
            self.o.valid.eq(self.busy & ready),
            self.o.payload.line.eq(line),
            self.o.payload.data.eq(self.content),
            self.o.payload.strobe.eq((1 << LINE_BYTES) - 1),
        ]
        m.d.sync += ready.eq(self.busy)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [line.eq(line + 1), self.number.eq(self.number + 1)]
            with m.If(last):
                m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.busy.eq(self.address.any()),
                ready.eq(0),
                line.eq(self.address[LINE_SHIFT:]),
                self.number.eq(0),
            ]
        with m.If(self.stop):
            m.d.sync += self.busy.eq(0)
        return m
