"""A FIFO, of registers if it is shallow, with a memory if it is deep."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

SHALLOW = 4
"""Up to this depth a queue is made of registers."""


class Queue(wiring.Component):
    """A FIFO of ``depth`` items (2 more if it is deep), one per cycle in and out.

    An item appears at ``o`` one cycle after its transfer at ``i`` if the queue was empty.
    ``i.ready`` does not depend on ``o.ready`` in the same cycle, so a queue of depth 1 passes an
    item every other cycle, and one of 2 or more passes one per cycle. The output comes from
    registers, that of a deep queue from a register or the memory.

    The payload is undefined while ``o`` is not valid. Without ``reset_less``, which a deep queue
    needs, it is 0 after a reset.
    """

    def __init__(self, shape: ShapeLike, depth: int, *, reset_less: bool = True) -> None:
        self._shape = shape
        self._depth = depth
        self._reset_less = reset_less
        super().__init__(
            {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "empty": Out(1)}
        )

    def elaborate(self, platform: Any) -> Module:
        if self._depth <= SHALLOW:
            return self._registers()
        return self._memory()

    def _registers(self) -> Module:
        """The first item is in a register of its own, the others are in a ring.

        So an ``o.ready`` that arrives late in the cycle drives one register instead of all.
        """
        m = Module()
        width = Shape.cast(self._shape).width
        others = self._depth - 1
        first = Signal(width, reset_less=self._reset_less)
        level = Signal(range(self._depth + 1))
        put = self.i.valid & self.i.ready
        take = self.o.valid & self.o.ready
        m.d.comb += [
            self.i.ready.eq(level < self._depth),
            self.o.valid.eq(level != 0),
            Cat(self.o.payload).eq(first),
            self.empty.eq(level == 0),
        ]
        m.d.sync += level.eq(level + put - take)
        if not others:
            with m.If(put):
                m.d.sync += first.eq(Cat(self.i.payload))
            return m

        ring = Array(
            Signal(width, name=f"item_{n}", reset_less=self._reset_less) for n in range(others)
        )
        put_at = Signal(range(others))
        take_at = Signal(range(others))
        passes = (level == 0) | (take & (level == 1))

        def after(place: Signal) -> Value:
            return Mux(place == others - 1, 0, place + 1)

        for n, item in enumerate(ring):
            with m.If(self.i.valid & (put_at == n) & (level != self._depth)):
                m.d.sync += item.eq(Cat(self.i.payload))
        with m.If(put & ~passes):
            m.d.sync += put_at.eq(after(put_at))
        with m.If(take & (level > 1)):
            m.d.sync += [first.eq(ring[take_at]), take_at.eq(after(take_at))]
        with m.Elif(passes):
            m.d.sync += first.eq(Cat(self.i.payload))
        return m

    def _memory(self) -> Module:
        """The first item is at the memory's output, or in a register if it came to an empty queue.

        An item stays at the memory's output as long as nothing else is read.
        """
        m = Module()
        width = Shape.cast(self._shape).width
        m.submodules.storage = storage = memory.Memory(shape=width, depth=self._depth, init=[])
        write = storage.write_port()
        read = storage.read_port(transparent_for=())

        level = Signal(range(self._depth + 1))
        put_at = Signal(range(self._depth))
        take_at = Signal(range(self._depth))
        reading = Signal()  # an item is at the memory's output
        first = Signal(width, reset_less=True)  # it comes before that item
        first_valid = Signal()
        put = self.i.valid & self.i.ready
        take = self.o.valid & self.o.ready
        fetch = Signal()
        direct = Signal()
        m.d.comb += [
            self.i.ready.eq(level < self._depth),
            self.o.valid.eq(first_valid | reading),
            Cat(self.o.payload).eq(Mux(first_valid, first, read.data)),
            self.empty.eq(~first_valid & ~reading & (level == 0)),
            # What arrives is the next item at the output.
            direct.eq((level == 0) & ~(first_valid & reading) & (~self.o.valid | self.o.ready)),
            fetch.eq((level != 0) & (~reading | (~first_valid & self.o.ready))),
            write.en.eq(put & ~direct),
            write.addr.eq(put_at),
            write.data.eq(Cat(self.i.payload)),
            read.en.eq(fetch),
            read.addr.eq(take_at),
        ]
        m.d.sync += [
            reading.eq(fetch | (reading & ~(take & ~first_valid))),
            first_valid.eq((put & direct) | (first_valid & ~take)),
            level.eq(level + (put & ~direct) - fetch),
        ]
        with m.If(direct):
            m.d.sync += first.eq(Cat(self.i.payload))
        for pointer, step in ((put_at, put & ~direct), (take_at, fetch)):
            with m.If(step):
                m.d.sync += pointer.eq(pointer + 1)
                with m.If(pointer == self._depth - 1):
                    m.d.sync += pointer.eq(0)
        return m


class SkidBuffer(wiring.Component):
    """A `Queue` that an item passes in the same cycle if no other item waits.

    ``i.ready`` comes from a register; ``o`` depends on ``i`` within a cycle.
    """

    def __init__(self, shape: ShapeLike, depth: int = 1) -> None:
        self._shape = shape
        self._depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.queue = queue = Queue(self._shape, self._depth)
        waits = ~queue.empty
        m.d.comb += [
            self.i.ready.eq(queue.i.ready),
            self.o.valid.eq(Mux(waits, queue.o.valid, self.i.valid)),
            Cat(self.o.payload).eq(Mux(waits, Cat(queue.o.payload), Cat(self.i.payload))),
            queue.i.valid.eq(self.i.valid & (waits | ~self.o.ready)),
            queue.i.payload.eq(self.i.payload),
            queue.o.ready.eq(self.o.ready),
        ]
        return m
