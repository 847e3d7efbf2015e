"""The replay buffer: keeps row 0's tokens until the accumulator retires them."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Shape, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import ChipConfig
from ..queue import Queue
from ..tokens import token


class ReplayBuffer(wiring.Component):
    """Passes tokens on, and keeps each until it is retired.

    A retired item with ``again`` = 0 frees the oldest token. One with ``again`` = 1 inverts
    ``epoch`` and sends the tokens again from the oldest on, with the new epoch. Tokens of the old
    epoch that are in flight are stale.

    One token per cycle; ``depth`` tokens are in flight at most.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(token(config))),
                "retired": In(stream.Signature(1)),
                "o": Out(stream.Signature(token(config))),
                "epoch": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = max(2, self._config.fifo_depth)
        width = Shape.cast(token(self._config)).width
        m.submodules.storage = storage = memory.Memory(shape=width, depth=depth, init=[])
        write = storage.write_port()
        read = storage.read_port(transparent_for=())

        put_at, oldest, next_at = (
            Signal(range(depth), name=name) for name in ("put_at", "oldest", "next_at")
        )
        kept = Signal(range(depth + 1))
        unsent = Signal(range(depth + 1))

        def step(pointer: Signal) -> Any:
            return Mux(pointer == depth - 1, 0, pointer + 1)

        put = self.i.valid & self.i.ready
        again = self.retired.valid & self.retired.payload
        free = self.retired.valid & ~self.retired.payload
        m.d.comb += [
            self.i.ready.eq(kept != depth),
            self.retired.ready.eq(1),
            write.en.eq(put),
            write.addr.eq(put_at),
            write.data.eq(Cat(self.i.payload)),
        ]

        m.submodules.head = head = Queue(token(self._config), 2)
        # A token waits at the memory's output until it can move on.
        reading = Signal()
        fetch = Signal()
        passes = Signal()
        connect(m, head.o, flipped(self.o))
        m.d.comb += [
            # If no token waits, a token bypasses the memory; it is stored there nevertheless.
            passes.eq(put & (unsent == 0) & ~reading & head.i.ready & ~again),
            fetch.eq((unsent != 0) & (~reading | head.i.ready) & ~again),
            read.en.eq(fetch),
            read.addr.eq(next_at),
            head.i.valid.eq(reading & ~again | passes),
            Cat(head.i.payload).eq(Mux(reading, read.data, Cat(self.i.payload))),
            head.i.payload.epoch.eq(self.epoch),
        ]
        m.d.sync += reading.eq(fetch | (reading & ~head.i.ready & ~again))

        with m.If(put):
            m.d.sync += put_at.eq(step(put_at))
        m.d.sync += kept.eq(kept + put - free)
        with m.If(free):
            m.d.sync += oldest.eq(step(oldest))
        with m.If(again):
            m.d.sync += [self.epoch.eq(~self.epoch), next_at.eq(oldest), unsent.eq(kept + put)]
        with m.Else():
            m.d.sync += unsent.eq(unsent + (put & ~passes) - fetch)
            with m.If(fetch | passes):
                m.d.sync += next_at.eq(step(next_at))
        return m
