"""Passes of a result fiber, and the bounds of the blocks that each pass keeps."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import PAIR, ChipConfig
from .place import BLOCK, context_pointer


class Passes(wiring.Component):
    """Bounds of the pass whose lookups are being decided, and the blocks it dropped.

    A pass keeps the blocks from ``lower`` on and, after an eviction, only those below ``upper``. If
    a block beyond that was dropped, the fiber needs a further pass, whose lower bound is the lowest
    dropped block.

    Members
    -------
    lower : Out(BLOCK), further : Out(1), moving : Out(1)
        The lower bound; whether it can be other than 0; whether it is valid only from the next
        cycle on.
    upper, upper_valid, upper_context : Out
        The upper bound, if there is one, and the context that it belongs to.
    epoch : Out(1)
        Lookups of the other epoch are stale.
    go, drop, block, end, context : In
        A lookup is decided: which of its blocks (the lower one first) the upper bound drops, and
        whether it is the fiber's last.
    replay : Out(1)
        In the cycle of a fiber's last lookup: the fiber has to be replayed.
    replayable : In(1), error : Out(1)
        Whether it can be replayed; it has to be and cannot (sticky).
    bounded, bound : In
        A block is evicted; not together with ``go``.
    """

    def __init__(self, config: ChipConfig) -> None:
        pointer = context_pointer(config)
        super().__init__(
            {
                "lower": Out(BLOCK),
                "further": Out(1),
                "moving": Out(1),
                "upper": Out(BLOCK),
                "upper_valid": Out(1),
                "upper_context": Out(pointer),
                "epoch": Out(1),
                "go": In(1),
                "drop": In(PAIR),
                "block": In(data.ArrayLayout(BLOCK, PAIR)),
                "end": In(1),
                "context": In(pointer),
                "replay": Out(1),
                "replayable": In(1),
                "error": Out(1),
                "bounded": In(1),
                "bound": In(BLOCK),
            }
        )

    def beyond(self, block: Any) -> Value:
        """Return whether a block is at or above ``upper``."""
        return block.as_value() >= self.upper.as_value()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        dropped = Signal()
        lowest = Signal(BLOCK)
        dropped_now = Signal()
        lowest_now = Signal(BLOCK)
        candidate = Signal(BLOCK)
        ended = Signal()
        lower = ~dropped | (candidate.as_value() < lowest.as_value())
        m.d.comb += [
            candidate.eq(Mux(self.drop[0], self.block[0].as_value(), self.block[1].as_value())),
            dropped_now.eq(dropped | self.drop.any()),
            lowest_now.eq(Mux(self.drop.any() & lower, candidate.as_value(), lowest.as_value())),
            ended.eq(self.go & self.end),
            self.replay.eq(ended & dropped_now & self.replayable),
        ]
        with m.If(self.go):
            m.d.sync += [dropped.eq(dropped_now), lowest.eq(lowest_now)]
        with m.If(self.bounded):
            # The bound is below all that was dropped before.
            m.d.sync += [
                dropped.eq(1),
                lowest.eq(self.bound),
                self.upper.eq(self.bound),
                self.upper_valid.eq(1),
                self.upper_context.eq(self.context),
            ]
        with m.If(ended):
            m.d.sync += [
                dropped.eq(0),
                self.upper_valid.eq(0),
                self.further.eq(self.replay),
                self.error.eq(self.error | (dropped_now & ~self.replayable)),
            ]
        with m.If(ended & ~self.replay):
            m.d.sync += self.lower.eq(0)
        with m.If(self.replay):
            m.d.sync += self.epoch.eq(~self.epoch)
        m.d.sync += self.moving.eq(self.replay)
        with m.If(self.moving):
            m.d.sync += self.lower.eq(lowest)
        return m
