"""The prefetcher: reads what a kernel begins with before a PE asks for it."""

from typing import Any

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, LINE_SHIFT, ChipConfig
from ..descriptor import PREFETCH_BITS, PREFETCHES
from ..kernel import kernel_layout
from ..register import payload_register
from .geometry import CacheConfig, prefetch


class Prefetcher(wiring.Component):
    """Asks the cache for the lines of the kernel's ``prefetch`` ranges that are a memory port's.

    A PE finds its first values behind a chain of reads, of a position, a block and the value: a
    memory latency each. The descriptor says where they all begin, so they can be on their way
    together.

    Range by range, ascending: a line per cycle, and a cycle before each range. Once from each
    reset; ``ranges`` must be constant from the first cycle after it on.

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
        number = Signal(range(PREFETCHES + 1))
        line = Signal(ADDRESS_BITS - LINE_SHIFT, reset_less=True)
        left = Signal(PREFETCH_BITS)
        first = Signal.like(line)
        lines = Signal.like(left)
        count = Signal.like(left)
        skipped = Signal()  # the range's first line is another port's
        advance = Signal()
        out = payload_register(m, self.o)
        m.d.comb += [
            first.eq(Array(r.address[LINE_SHIFT:] for r in self.ranges)[number]),
            lines.eq(Array(r.lines for r in self.ranges)[number]),
            skipped.eq((first ^ self._port)[0] if self._ports == 2 else 0),
            # half of them with two ports, rounded up where the first one is this port's
            count.eq((lines + ~skipped)[1:] if self._ports == 2 else lines),
            advance.eq(~self.o.valid | self.o.ready),
        ]
        with m.If(left != 0):
            with m.If(advance):
                m.d.sync += [line.eq(line + self._ports), left.eq(left - 1)]
        with m.Elif(number != PREFETCHES):
            m.d.sync += [
                number.eq(number + 1),
                line.eq(first + skipped),
                left.eq(count),
            ]
        with m.If(advance):
            m.d.sync += self.o.valid.eq(left != 0)
        with m.If(advance & (left != 0)):
            m.d.sync += out.line.eq(line)
        return m
