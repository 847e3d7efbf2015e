"""A fair arbiter."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RoundRobin(wiring.Component):
    """Grants the first request after the last granted one; no latency.

    ``grant`` is one-hot, or 0 without requests. The turn passes in the cycles in which ``granted``
    is set: the grant was used.
    """

    def __init__(self, clients: int) -> None:
        self._clients = clients
        super().__init__({"requests": In(clients), "granted": In(1), "grant": Out(clients)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        turn = Signal(self._clients)  # the clients after the last granted one
        ahead = Signal(self._clients)
        candidates = Signal(self._clients)
        reached = Signal(self._clients)
        m.d.comb += [
            ahead.eq(self.requests & turn),
            candidates.eq(Mux(ahead.any(), ahead, self.requests)),
        ]
        for n in range(self._clients):
            m.d.comb += reached[n].eq(candidates[: n + 1].any())
        m.d.comb += self.grant.eq(candidates & ~(reached << 1))
        with m.If(self.granted & self.requests.any()):
            m.d.sync += turn.eq(reached << 1)
        return m
