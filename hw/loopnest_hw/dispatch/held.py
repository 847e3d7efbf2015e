"""The work that a PE holds: chunks whose tokens are not all retired."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, ChipConfig
from ..queue import Queue
from ..tokens import WEIGHT_BITS

MAX_CHUNKS = 32
"""Chunks that a PE may hold: the depth of a queue, which holds 2 more if it is in memory."""

SENT = data.StructLayout({"valid": 1, "tokens": range(LANES + 1), "weight": WEIGHT_BITS})
"""A chunk that is sent to the PE: its number of tokens, 1 to 16, and its weight."""


def held_chunks(config: ChipConfig) -> int:
    """Return the depth of the queue of the chunks that a PE holds."""
    return min(MAX_CHUNKS, max(2, config.fifo_depth))


class HeldWork(wiring.Component):
    """Adds up the weight of the chunks that one PE holds.

    A chunk's weight counts until as many tokens are retired as it has. Tokens are retired in order;
    ``retired`` without a chunk, as for the null token of the nest's end, is ignored.

    ``takes``: the PE holds no more than ``credit``, and another chunk can be recorded. It is
    wrong in the cycle after a chunk was sent: no chunk may be sent then. So the weight held is
    never more than the credit and one chunk.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "sent": In(SENT),
                "retired": In(1),
                "credit": In(WEIGHT_BITS),
                "takes": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        entry = data.StructLayout({"tokens": range(LANES + 1), "weight": WEIGHT_BITS})
        m.submodules.chunks = chunks = Queue(entry, held_chunks(self._config))
        oldest = chunks.o.payload
        done = Signal(range(LANES))  # tokens of the oldest chunk that are retired
        freed = Signal(WEIGHT_BITS)
        held = Signal(WEIGHT_BITS + 1)
        over = Signal()
        ends = Signal()
        m.d.comb += [
            chunks.i.valid.eq(self.sent.valid),
            chunks.i.payload.tokens.eq(self.sent.tokens),
            chunks.i.payload.weight.eq(self.sent.weight),
            ends.eq(self.retired & (oldest.tokens == done + 1)),
            chunks.o.ready.eq(ends),
            self.takes.eq(~over & chunks.i.ready),
        ]
        with m.If(chunks.o.valid & self.retired):
            m.d.sync += done.eq(Mux(ends, 0, done + 1))
        m.d.sync += [
            freed.eq(Mux(chunks.o.valid & ends, oldest.weight, 0)),
            held.eq(held + Mux(self.sent.valid, self.sent.weight, 0) - freed),
            over.eq(held > self.credit),
        ]
        return m
