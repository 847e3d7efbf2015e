"""A fair arbiter."""

from typing import Any

from amaranth.hdl import Assert, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formal import FORMAL


class RoundRobin(wiring.Component):
    """Grants the first request after the last granted one; no latency.

    ``grant`` is one-hot, or 0 without requests. The turn passes in cycles in which ``granted`` is
    set: the grant was used. So while a request stays, each other client is granted once at most.
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

        if platform == FORMAL:
            numbers = range(self._clients)
            used = Signal(self._clients)
            m.d.comb += used.eq(Mux(self.granted, self.grant, 0))
            m.d.comb += Assert((self.grant & (self.grant - 1)[: self._clients]) == 0)
            m.d.comb += Assert(self.requests.any() == self.grant.any())
            m.d.comb += [Assert(~turn[n] | turn[n + 1]) for n in numbers[:-1]]
            m.d.comb += Assert(~turn[0])
            for waits in numbers:
                # those granted while it waits are behind it, and not after the last one granted
                before = Signal(self._clients, name=f"before_{waits}")
                m.d.sync += before.eq(Mux(self.requests[waits], before | used, 0))
                with m.If(used[waits]):
                    m.d.sync += before.eq(0)
                m.d.comb += Assert((used & Mux(self.requests[waits], before, 0)) == 0)
                for n in numbers:
                    own = turn[waits]
                    behind = own | ~turn[n] if n > waits else own & ~turn[n]
                    m.d.comb += Assert(~before[n] | behind)
        return m
