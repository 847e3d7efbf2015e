"""A client's window: requests of which any may go to its bank."""

from itertools import permutations
from typing import Any

from amaranth.hdl import Assert, Cat, Module, Signal
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
        # the request in q is older than that in p, and for the same bank
        ahead = {
            (q, p): Signal(name=f"ahead_{q}_{p}", reset_less=True)
            for p in places
            for q in places
            if q != p
        }

        # arrival
        put = Signal(config.window)
        next_bank = Signal(config.bank_bits)
        m.d.comb += [
            next_bank.eq(bank_of(config, self.i.payload.line)),
            self.i.ready.eq(~valid.all()),
            put.eq(lowest(~valid) & self.i.valid.replicate(config.window)),
        ]
        for p in places:
            with m.If(put[p]):
                m.d.sync += [
                    bank[p].eq(next_bank),
                    upper[p].eq(upper_of(config, self.i.payload.line)),
                    slot[p].eq(self.i.payload.slot),
                ]
                for q in places:
                    if q != p:
                        m.d.sync += [ahead[q, p].eq(bank[q] == next_bank), ahead[p, q].eq(0)]

        # departure
        offered = Signal(config.window)
        to = [Signal(config.banks, name=f"to_{p}") for p in places]
        left = Signal(config.window)
        for p in places:
            older = [valid[q] & ahead[q, p] for q in places if q != p]
            m.d.comb += [
                offered[p].eq(valid[p] & ~Cat(older).any()),
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
            # requests for one bank are in an order, so each bank that one is for is offered one
            for p, q in permutations(places, 2):
                ordered = (ahead[p, q] | ahead[q, p]) == (bank[p] == bank[q])
                held = valid[p] & valid[q]
                m.d.comb += Assert(~held | (ordered & ~(ahead[p, q] & ahead[q, p])))
            for p, q, r in permutations(places, 3):
                circle = ahead[p, q] & ahead[q, r] & ahead[r, p]
                m.d.comb += Assert(~(valid[p] & valid[q] & valid[r] & circle))
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
