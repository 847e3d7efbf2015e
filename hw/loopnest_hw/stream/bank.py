"""A bank of read streams on one line pool."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, COORDINATE_BITS, ChipConfig
from ..tokens import (
    AHEAD,
    BOUND,
    FIBER_BLOCKS,
    FIBER_REQUEST,
    LEVEL_FAULT,
    gather_reply,
    gather_request,
    line_reply,
    line_request,
)
from .gather import WORD_SHIFT, Gather, Known
from .pool import LinePool, ring
from .scanner import Scanner

SCAN = wiring.Signature(
    {
        "i": In(stream.Signature(FIBER_REQUEST)),
        "o": Out(stream.Signature(FIBER_BLOCKS)),
        "open": In(1),
        "table": In(ADDRESS_BITS),
        "blocks": In(ADDRESS_BITS),
        "size": In(COORDINATE_BITS + 1),
        "bound": In(BOUND),
        "ahead": Out(AHEAD),
        "fault": Out(LEVEL_FAULT),
    }
)
"""A scanner's ports and settings (see `Scanner`), from the scanner's side."""


def gather_port(lanes: int) -> wiring.Signature:
    """A gather's ports (see `Gather`), from the gather's side."""
    return wiring.Signature(
        {
            "i": In(stream.Signature(gather_request(lanes))),
            "o": Out(stream.Signature(gather_reply(lanes))),
        }
    )


def equal_rings(streams: int, lines: int) -> list[tuple[int, int]]:
    """Return (base, last) of each stream's ring if all have equal parts of the pool."""
    size = lines // streams
    return [(n * size, (n + 1) * size - 1) for n in range(streams)]


class StreamBank(wiring.Component):
    """Scanners, value gathers and, optionally, a gather of words, around one `LinePool`.

    ``scan``, ``value`` and ``words`` exist only if there are such streams; requests of ``words``
    have ``words`` items of 4 bytes. The order of ``ring`` is: positions and blocks of scanner 0, of
    scanner 1, ..., then each operand's values, then the words. Rings must not overlap and lie below
    ``lines``.

    ``error`` (a read failed; stays until reset) and ``pool_full`` are the pool's. At reset, no read
    may be in flight.
    """

    def __init__(
        self, config: ChipConfig, *, scanners: int, values: int, words: int, lines: int
    ) -> None:
        self._config = config
        self._scanners = scanners
        self._values = values
        self._words = words
        self._lines = lines
        self._streams = 2 * scanners + values + bool(words)
        members: dict[str, Any] = {
            "ring": In(ring(config)).array(self._streams),
            "request": Out(stream.Signature(line_request(config))),
            "reply": In(stream.Signature(line_reply(config))),
            "error": Out(1),
            "pool_full": Out(1),
        }
        if scanners:
            members["scan"] = Out(SCAN).array(scanners)
            members["flush"] = In(1)
        if values:
            members["value"] = Out(gather_port(config.multipliers)).array(values)
        if words:
            members["words"] = Out(gather_port(words))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.pool = pool = LinePool(self._config, streams=self._streams, lines=self._lines)
        wiring.connect(m, pool.request, wiring.flipped(self.request))
        wiring.connect(m, pool.reply, wiring.flipped(self.reply))
        m.d.comb += [self.error.eq(pool.error), self.pool_full.eq(pool.pool_full)]

        for s in range(self._scanners):
            m.submodules[f"scanner_{s}"] = scanner = Scanner(self._config)
            port = self.scan[s]
            wiring.connect(m, scanner.i, wiring.flipped(port.i))
            wiring.connect(m, scanner.o, wiring.flipped(port.o))
            wiring.connect(m, scanner.position_pool, pool.client[2 * s])
            wiring.connect(m, scanner.block_pool, pool.client[2 * s + 1])
            m.d.comb += [
                Cat(scanner.open, scanner.table, scanner.blocks, scanner.size).eq(
                    Cat(port.open, port.table, port.blocks, port.size)
                ),
                scanner.position_ring.eq(self.ring[2 * s]),
                scanner.block_ring.eq(self.ring[2 * s + 1]),
                scanner.bound.eq(port.bound),
                port.ahead.eq(scanner.ahead),
                port.fault.eq(scanner.fault),
                scanner.flush.eq(self.flush),
            ]

        def gather(name: str, port: Any, known: list[Known], *, stream: int, kept: bool) -> None:
            m.submodules[name] = gather = Gather(self._config, known, kept=kept)
            wiring.connect(m, gather.i, wiring.flipped(port.i))
            wiring.connect(m, gather.o, wiring.flipped(port.o))
            wiring.connect(m, gather.pool, pool.client[stream])
            m.d.comb += gather.ring.eq(self.ring[stream])

        for v in range(self._values):
            gather(
                f"value_{v}",
                self.value[v],
                [Known(self._config.dtype.narrow_bytes.bit_length() - 1)]
                * self._config.multipliers,
                stream=2 * self._scanners + v,
                kept=self._config.kept_lines > 0,
            )
        if self._words:
            known = [Known(WORD_SHIFT)] * self._words
            gather("word_gather", self.words, known, stream=self._streams - 1, kept=False)
        return m
