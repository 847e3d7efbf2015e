"""The prefetcher: reads what a kernel begins with before a PE asks for it."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BITS, LINE_SHIFT, ChipConfig
from ..descriptor import PREFETCH_BITS, PREFETCHES
from ..kernel import kernel_layout
from ..register import payload_register
from ..unary import lowest, one_of
from .geometry import CacheConfig, prefetch


class Prefetcher(wiring.Component):
    """Asks the cache for the lines of the kernel's ``prefetch`` ranges that are a memory port's.

    A PE finds its first values behind a chain of reads, of a position, a block and the value: a
    memory latency each. The descriptor says where they all begin, so they can be on their way
    together.

    The ranges take turns: the first line of each that has one for this port, then the second
    lines, and so on, a line per cycle, the first in the third cycle after the reset. So what a PE
    needs at the end of its chain is not behind all that it needs before. Once from each reset;
    ``ranges`` must be constant from the first cycle after it on.

    Golden function: `loopnest_sim.model.prefetch.prefetched_lines`.

    Members
    -------
    ranges : In
        The descriptor's member ``prefetch``.
    o : stream of `geometry.prefetch`, out
    """

    def __init__(self, config: ChipConfig, port: int) -> None:
        self._ports = config.memory_ports
        self._port = port
        super().__init__(
            {
                "ranges": In(kernel_layout(config).members["prefetch"]),
                "o": Out(stream.Signature(prefetch(CacheConfig.of(config)))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shift = (self._ports - 1).bit_length()  # the low bits of a line's number are its port's
        first = [Signal(LINE_BITS - shift, name=f"first_{n}") for n in range(PREFETCHES)]
        above = Signal(PREFETCHES)  # this port's first line is the one after `first`
        number = Signal(PREFETCH_BITS)  # of the line in its range, among those of this port
        visited = Signal(PREFETCHES)  # ranges whose line of this number is on its way
        waiting = Signal(PREFETCHES)  # those that have one, and had no turn
        turn = Signal(PREFETCHES)
        for n, span in enumerate(self.ranges):
            line = span.address[LINE_SHIFT:]
            count = Signal(PREFETCH_BITS, name=f"count_{n}")
            m.d.comb += [
                first[n].eq(line[shift:]),
                waiting[n].eq((number < count) & ~visited[n]),
            ]
            if self._ports == 1:
                m.d.comb += count.eq(span.lines)
            else:  # half of them, rounded up where the first one is this port's
                m.d.comb += [
                    count.eq((span.lines + (line[0] == self._port))[1:]),
                    above[n].eq(line[0] & (self._port == 0)),
                ]

        chosen = Signal(PREFETCHES)
        at = Signal.like(number, reset_less=True)
        out = payload_register(m, self.o)
        m.d.comb += turn.eq(lowest(waiting))
        with m.If(~self.o.valid | self.o.ready):
            upper = one_of(zip(chosen, first, strict=True)) + at + (chosen & above).any()
            m.d.sync += [
                chosen.eq(turn),
                at.eq(number),
                visited.eq(visited | turn),
                self.o.valid.eq(chosen.any()),
                out.line.eq(Cat(Const(self._port, shift), upper[: LINE_BITS - shift])),
            ]
            with m.If(turn.any() & ~(waiting & ~turn).any()):
                m.d.sync += [number.eq(number + 1), visited.eq(0)]
        return m
