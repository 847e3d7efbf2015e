"""The distributor: hands chunks to the PEs."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, ChipConfig
from ..kernel import kernel_layout
from ..register import payload_register
from ..stream.round_robin import RoundRobin
from ..tokens import chunk, joined
from .held import HeldWork


class Distributor(wiring.Component):
    """Hands each chunk to one PE, one nest from each reset to the next.

    If the PEs share out the rows (``share.rows`` is 1), a chunk goes to the next PE in turn that
    has no item waiting at ``o``, holds a weight of ``share.credit`` at most and has room for
    another chunk (`HeldWork`). After the last chunk every PE gets an item of count 0 with ``last``,
    which no other item has. So a PE's items are the blocks of one fiber, as if it were alone.

    Otherwise PE 0 gets every item as it is, and the others get only the item of count 0, at the
    end.

    ``retired`` are the PEs' reports (`accumulate.table`): 0, a row-0 token is done; 1, its tokens
    are sent again, which changes nothing here.

    One chunk per cycle; each PE takes one every other cycle, or one per cycle if it is alone. The
    latency is one cycle.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "kernel": In(kernel_layout(config)),
                "i": In(stream.Signature(chunk(config))),
                "retired": In(stream.Signature(1)).array(config.pes),
                "o": Out(stream.Signature(joined(config, 1))).array(config.pes),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pes = self._config.pes
        shared = self.kernel.share.rows
        item = self.i.payload.item
        m.submodules.choice = choice = RoundRobin(pes)

        # `closing`: PEs to which the item of count 0 must still be sent
        ended = Signal()
        closing = Signal(pes)
        wanted = Signal()
        sends = Signal()
        tokens = Signal(range(LANES + 1))
        m.d.comb += [
            # the end alone is not for one PE, if all get an item for it
            wanted.eq((item.count != 0) | ~shared),
            sends.eq(self.i.valid & ~ended & wanted & choice.grant.any()),
            choice.granted.eq(sends),
            self.i.ready.eq(~ended & (~wanted | choice.grant.any())),
            tokens.eq(sum(item.block[0].lanes[lane] for lane in range(LANES))),
        ]
        with m.If(self.i.valid & self.i.ready & item.last):
            m.d.sync += [ended.eq(1), closing.eq(Mux(shared, -1, -2))]

        for p in range(pes):
            out = self.o[p]
            payload = payload_register(m, out)
            here = Signal(name=f"here_{p}")
            m.submodules[f"held_{p}"] = held = HeldWork(self._config)
            m.d.comb += [
                here.eq(sends & choice.grant[p]),
                held.sent.valid.eq(here & shared),
                held.sent.tokens.eq(tokens),
                held.sent.weight.eq(self.i.payload.weight),
                held.retired.eq(self.retired[p].valid & ~self.retired[p].payload),
                held.credit.eq(self.kernel.share.credit),
                self.retired[p].ready.eq(1),
            ]
            # A PE's `ready` comes late in the cycle: it counts only if there is no choice.
            alone = ~out.valid | out.ready if p == 0 else 0
            m.d.comb += choice.requests[p].eq(Mux(shared, ~out.valid & held.takes, alone))
            with m.If(here):
                m.d.sync += [out.valid.eq(1), payload.eq(item)]
                with m.If(shared):
                    m.d.sync += payload.last.eq(0)
            with m.Elif(~out.valid | out.ready):
                m.d.sync += [
                    out.valid.eq(closing[p]),
                    payload.count.eq(0),
                    payload.last.eq(1),
                ]
                with m.If(closing[p]):
                    m.d.sync += closing[p].eq(0)
        return m
