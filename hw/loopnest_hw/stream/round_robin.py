"""A fair arbiter."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RoundRobin(wiring.Component):
    """Grants the first request after the last granted one; no latency.

    ``grant`` is one-hot, or 0 without requests. The turn passes in cycles in which ``granted`` is
    set: the grant was used.
    """

    def __init__(self, clients: int) -> None:
        self._clients = clients
        super().__init__({"requests": In(clients), "granted": In(1), "grant": Out(clients)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        turn = Signal(self._clients)  # the clients after the last granted one
        ahead = Signal(self._clients)
        m.d.comb += ahead.eq(self.requests & turn)

        def first(requests: Signal, name: str) -> Value:
            reached = Signal(self._clients, name=f"reached_{name}")
            for n in range(self._clients):
                m.d.comb += reached[n].eq(requests[: n + 1].any())
            return requests & ~(reached << 1)

        # Both are computed before it is known which one is used.
        m.d.comb += self.grant.eq(
            Mux(ahead.any(), first(ahead, "ahead"), first(self.requests, "any"))
        )
        with m.If(self.granted & self.requests.any()):
            for n in range(1, self._clients):
                m.d.sync += turn[n].eq(self.grant[:n].any())
        return m
