"""A client's window: requests of which any may go to its bank."""

from itertools import permutations
from typing import Any

from amaranth.hdl import Assert, Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..formal import FORMAL
from ..unary import lowest, one_of
from .geometry import CacheConfig, bank_of, request, upper_of


class Window(wiring.Component):
    """Holds up to ``window`` requests, and offers every bank the oldest one for it.

    A request is offered in the cycle after its transfer, until it is granted. At one request per
    cycle, none waits for one of another bank while the window has a free place.

    Members
    -------
    i : stream of `geometry.request`, in
        Ready while a place is free, whatever is granted in this cycle.
    wants : Out(banks)
        Banks that are offered a request.
    upper, slot : Out, array of banks
        What is offered; 0 if nothing is.
    granted : In(banks)
        Banks whose offers are taken in this cycle; only those in ``wants`` count.
    empty : Out(1)
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(request(config))),
                "wants": Out(config.banks),
                "upper": Out(config.upper_bits).array(config.banks),
                "slot": Out(config.slot_bits).array(config.banks),
                "granted": In(config.banks),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        places = range(config.window)
        valid = Signal(config.window)
        bank = [Signal(config.bank_bits, name=f"bank_{p}", reset_less=True) for p in places]
        upper = [Signal(config.upper_bits, name=f"upper_{p}", reset_less=True) for p in places]
        slot = [Signal(config.slot_bits, name=f"slot_{p}", reset_less=True) for p in places]
        # before[p, q], p < q: the request in p arrived before that in q
        before = {
            (p, q): Signal(name=f"before_{p}_{q}", reset_less=True)
            for p in places
            for q in places[p + 1 :]
        }

        def older(p: int, q: int) -> Value:
            return before[p, q] if p < q else ~before[q, p]

        # arrival
        put = Signal(config.window)
        m.d.comb += [
            self.i.ready.eq(~valid.all()),
            put.eq(lowest(~valid) & self.i.valid.replicate(config.window)),
        ]
        for p in places:
            with m.If(put[p]):
                m.d.sync += [
                    bank[p].eq(bank_of(config, self.i.payload.line)),
                    upper[p].eq(upper_of(config, self.i.payload.line)),
                    slot[p].eq(self.i.payload.slot),
                ]
                for q in places:
                    if q != p:
                        m.d.sync += before[min(p, q), max(p, q)].eq(int(q < p))

        # departure
        offered = Signal(config.window)
        to = [Signal(config.banks, name=f"to_{p}") for p in places]
        left = Signal(config.window)
        for p in places:
            ahead = [valid[q] & older(q, p) & (bank[q] == bank[p]) for q in places if q != p]
            m.d.comb += [
                offered[p].eq(valid[p] & ~Cat(ahead).any()),
                to[p].eq(Cat(offered[p] & (bank[p] == b) for b in range(config.banks))),
                left[p].eq((to[p] & self.granted).any()),
            ]
        for b in range(config.banks):
            m.d.comb += [
                self.wants[b].eq(Cat(to[p][b] for p in places).any()),
                self.upper[b].eq(one_of((to[p][b], upper[p]) for p in places)),
                self.slot[b].eq(one_of((to[p][b], slot[p]) for p in places)),
            ]
        m.d.sync += valid.eq((valid & ~left) | put)
        m.d.comb += self.empty.eq(~valid.any())

        if platform == FORMAL:
            # the order of arrival has no circle, so each bank that a request is for is offered one
            for p, q, r in permutations(places, 3):
                held = valid[p] & valid[q] & valid[r]
                m.d.comb += Assert(~held | ~(older(p, q) & older(q, r) & older(r, p)))
            for p in places:
                same = [offered[q] & (bank[q] == bank[p]) for q in places]
                m.d.comb += Assert(~valid[p] | Cat(same).any())
            # a bank is offered one request at most, and each grant removes the one offered
            for b in range(config.banks):
                chosen = Cat(to[p][b] for p in places)
                m.d.comb += Assert((chosen & (chosen - 1)[: len(chosen)]) == 0)
                m.d.comb += Assert(~(self.granted & self.wants)[b] | ((chosen & left) == chosen))
            for p in places:
                m.d.comb += Assert(~left[p] | (to[p] & self.granted & self.wants).any())
                m.d.comb += Assert(~put[p] | ~valid[p])
        return m
