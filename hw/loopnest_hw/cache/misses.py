"""The reads of one memory port's banks."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..stream.round_robin import RoundRobin
from ..unary import one_of
from .geometry import CacheConfig, line_of, miss, read


class Misses(wiring.Component):
    """Sends the misses of a port's banks to memory, round-robin, one per cycle.

    A read is on ``o`` one cycle after its transfer.

    Members
    -------
    i : array of streams of `geometry.miss`, in
        Those of banks ``port``, ``port + ports``, ...
    o : stream of `geometry.read`, out
    """

    def __init__(self, config: CacheConfig, port: int) -> None:
        self._config = config
        self._banks = range(port, config.banks, config.ports)
        super().__init__(
            {
                "i": In(stream.Signature(miss(config))).array(len(self._banks)),
                "o": Out(stream.Signature(read(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.arbiter = arbiter = RoundRobin(len(self._banks))
        room = Signal()
        chosen = Signal(read(config))
        m.d.comb += [
            room.eq(~self.o.valid | self.o.ready),
            arbiter.requests.eq(Cat(i.valid for i in self.i)),
            arbiter.granted.eq(room),
        ]
        parts = []
        for n, bank in enumerate(self._banks):
            i, grant = self.i[n], arbiter.grant[n]
            line = line_of(config, bank, i.payload.upper)[: config.line_bits]
            parts.append((grant, Cat(line, i.payload.waiter, Const(bank, config.bank_bits))))
            m.d.comb += i.ready.eq(grant & room)
        m.d.comb += chosen.eq(one_of(parts))
        with m.If(room):
            m.d.sync += [self.o.valid.eq(arbiter.requests.any()), self.o.payload.eq(chosen)]
        return m
