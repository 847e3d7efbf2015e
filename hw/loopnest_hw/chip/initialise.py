"""The initialiser: fills the result's region before the PE writes into it."""

from typing import Any

from amaranth.hdl import Assert, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BYTES, LINE_SHIFT, ChipConfig
from ..formal import FORMAL
from ..format import LINE_WORDS
from ..kernel import kernel_layout
from ..tokens import LINE_WRITE


class Initialiser(wiring.Component):
    """Passes a memory port's writes on; with ``result.initialise``, those that fill the region come
    first.

    The table of a compressed result is filled with zeros, the values of a dense one with
    ``result.background``, up to the region's last byte. One line per cycle leaves; meanwhile the
    PEs' writes wait, so that they take effect after it. Without ``initialise`` nothing waits.

    A kernel lasts from a reset of this unit to the next one.

    Parameters
    ----------
    config : ChipConfig
    port : int
        The memory port: lines have this number modulo ``config.memory_ports``.

    Members
    -------
    result : In
        The descriptor's member of this name, constant from the first cycle after the reset on.
    i : In(stream.Signature(tokens.LINE_WRITE))
        The PEs' writes through this port.
    o : Out(stream.Signature(tokens.LINE_WRITE))
    done : Out(1)
        Every line of the region that is this port's has left.
    """

    def __init__(self, config: ChipConfig, port: int = 0) -> None:
        self._port = port
        self._ports = config.memory_ports
        super().__init__(
            {
                "result": In(kernel_layout(config).members["result"]),
                "i": In(stream.Signature(LINE_WRITE)),
                "o": Out(stream.Signature(LINE_WRITE)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        result = self.result
        begin = Mux(result.compressed, result.table, result.values)
        end = Mux(result.compressed, result.table_end, result.values_end)
        word = Mux(result.compressed, 0, result.background)

        started = Signal()
        filled = Signal()
        line = Signal(LINE_WRITE.members["line"])
        first, last = Signal.like(line), Signal.like(line)
        # bytes of the region in its last line, if it ends within one of this port
        rest = Signal(LINE_SHIFT)
        at_end = Signal()
        fills = Signal()
        m.d.comb += [
            first.eq(self._next(begin[LINE_SHIFT:])),
            last.eq(self._next(end[LINE_SHIFT:])),
            rest.eq(Mux(last == end[LINE_SHIFT:], end[:LINE_SHIFT], 0)),
            at_end.eq(line == last),
            fills.eq(started & ~filled & ~(at_end & (rest == 0))),
            self.done.eq(~result.initialise | (started & ~fills)),
        ]
        m.d.sync += started.eq(result.initialise)
        with m.If(~started):
            m.d.sync += line.eq(first)
        with m.If(fills):
            m.d.comb += [
                self.o.valid.eq(1),
                self.o.payload.line.eq(line),
                self.o.payload.data.eq(word.replicate(LINE_WORDS)),
                self.o.payload.strobe.eq(
                    Mux(at_end, (Const(1, LINE_BYTES) << rest) - 1, (1 << LINE_BYTES) - 1)
                ),
            ]
            with m.If(self.o.ready):
                m.d.sync += [line.eq(line + self._ports), filled.eq(at_end)]
        with m.Elif(self.done):
            m.d.comb += [
                self.o.valid.eq(self.i.valid),
                self.o.payload.eq(self.i.payload),
                self.i.ready.eq(self.o.ready),
            ]
        if platform == FORMAL:
            m.d.comb += Assert(~started | result.initialise)
        return m

    def _next(self, line: Value) -> Value:
        """Return the first line of this port from ``line`` on."""
        return line if self._ports == 1 else line + (line[0] ^ self._port)
