"""The descriptor fetch: reads kernel descriptors from memory, the next one ahead of its turn."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, LINE_BITS, LINE_BYTES, LINE_SHIFT, ChipConfig
from ..descriptor import MAGIC, descriptor_lines, places
from ..format import LINE_WORDS
from ..kernel import kernel_layout
from ..tokens import line_reply, line_request

WORD_BITS = 32


def member(kernel: data.View, path: str) -> Value:
    """Return the kernel's field by its dotted path."""
    value: Any = kernel
    for name in path.split("."):
        value = value[int(name) if name.isdecimal() else name]
    return value


class DescriptorFetch(wiring.Component):
    """Reads descriptors, one after the other, and loads them into the kernel register.

    Lines are requested back to back and may arrive in any order. Those of a list's first descriptor
    go straight to the register. Those of a further one are read while the kernel before it runs:
    they wait in a memory and move to the register, one per cycle, once all have arrived and
    ``take`` is set.

    Members
    -------
    start : In(1), line : In(27)
        Fetches the first descriptor of a list, from this line on.
    ahead : In(1)
        Fetches the descriptor behind the previous one into the memory. This and ``start`` only
        while not ``busy``.
    take : In(1)
        The register may change; held until ``loaded``, or until the next ``start``.
    stop : In(1)
        Withdraws a waiting request.
    busy : Out(1)
        A request is waiting.
    loaded : Out(1)
        The descriptor requested last is in ``kernel``, complete.
    prefetches : Out(1)
        It is the first one of a list, and its ``prefetch`` is in ``kernel``, behind the right
        ``magic``; without a cache never. Until the next ``start`` or ``ahead``.
    failed : Out(1), where : Out(32)
        A line of it was answered with an error; the byte address of the lowest such line. Valid
        while ``loaded``.
    kernel : Out(kernel_layout)
    request, reply : streams of line reads
        A reply is always accepted.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "line": In(LINE_BITS),
                "ahead": In(1),
                "take": In(1),
                "stop": In(1),
                "busy": Out(1),
                "loaded": Out(1),
                "prefetches": Out(1),
                "failed": Out(1),
                "where": Out(ADDRESS_BITS),
                "kernel": Out(kernel_layout(config)),
                "request": Out(stream.Signature(line_request(config))),
                "reply": In(stream.Signature(line_reply(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lines = descriptor_lines(self._config)
        m.submodules.lines = storage = memory.Memory(shape=8 * LINE_BYTES, depth=lines, init=[])
        put, get = storage.write_port(), storage.read_port(transparent_for=())
        reply = self.reply.payload

        line = Signal(LINE_BITS)
        asked = Signal(range(lines + 1))
        received = Signal(range(lines + 1))
        failed_slot = Signal(range(lines))
        stored = Signal()
        moved = Signal(range(lines + 1))
        moving = Signal()
        arriving = Signal()  # a line is at the memory's output
        slot = Signal(range(lines))
        # the line that the register takes in this cycle
        loads = Signal()
        number = Signal(range(lines))
        content = Signal(data.ArrayLayout(WORD_BITS, LINE_WORDS))
        complete = received == lines
        m.d.comb += [
            self.reply.ready.eq(1),
            self.request.valid.eq(self.busy),
            self.request.payload.line.eq(line),
            self.request.payload.slot.eq(asked),
            put.en.eq(self.reply.valid & stored),
            put.addr.eq(reply.slot),
            put.data.eq(reply.data),
            moving.eq(self.take & stored & complete & (moved != lines)),
            get.en.eq(moving),
            get.addr.eq(moved),
            self.loaded.eq(Mux(stored, (moved == lines) & ~arriving, complete)),
            # `line` is already that of the next descriptor
            self.where.eq(Cat(Const(0, LINE_SHIFT), (line - lines + failed_slot)[: len(line)])),
        ]
        m.d.sync += [arriving.eq(moving), slot.eq(moved)]
        with m.If(moving):
            m.d.sync += moved.eq(moved + 1)
        with m.If(stored):
            m.d.comb += [loads.eq(arriving), number.eq(slot), content.eq(get.data)]
        with m.Else():
            m.d.comb += [loads.eq(self.reply.valid), number.eq(reply.slot), content.eq(reply.data)]
        with m.If(loads):
            self._load(m, number, content)

        early = {n: Signal(name=f"came_{n}") for n in self._early_lines()}
        with m.If(self.reply.valid & ~reply.error & ~stored):
            for n, came in early.items():
                m.d.sync += came.eq(came | (reply.slot == n))
        if early:
            m.d.comb += self.prefetches.eq(Cat(early.values()).all() & (self.kernel.magic == MAGIC))

        with m.If(self.busy & self.request.ready):
            m.d.sync += [line.eq(line + 1), asked.eq(asked + 1)]
            with m.If(asked == lines - 1):
                m.d.sync += self.busy.eq(0)
        with m.If(self.reply.valid):
            m.d.sync += received.eq(received + 1)
            # Of several errors, the one of the lowest line is reported, in whatever order they
            # arrive.
            with m.If(reply.error):
                m.d.sync += self.failed.eq(1)
                with m.If(~self.failed | (reply.slot < failed_slot)):
                    m.d.sync += failed_slot.eq(reply.slot)
        with m.If(self.start | self.ahead):
            m.d.sync += [
                self.busy.eq(1),
                asked.eq(0),
                received.eq(0),
                moved.eq(0),
                self.failed.eq(0),
                stored.eq(self.ahead),
            ]
            m.d.sync += [came.eq(0) for came in early.values()]
        with m.If(self.start):
            m.d.sync += [line.eq(self.line), arriving.eq(0)]
        with m.If(self.stop):
            m.d.sync += self.busy.eq(0)
        return m

    def _early_lines(self) -> list[int]:
        """Return the descriptor's lines that have ``magic`` and ``prefetch``, if it has that."""
        if not self._config.cached:
            return []
        early = {"magic", "prefetch"}
        found = places(self._config)
        return sorted({p.word // LINE_WORDS for p in found if p.field.path.split(".")[0] in early})

    def _load(self, m: Module, number: Signal, words: data.View) -> None:
        """Load the fields of a line of the descriptor into the register."""
        with m.Switch(number):
            for n in range(descriptor_lines(self._config)):
                with m.Case(n):
                    for place in places(self._config):
                        if place.word // LINE_WORDS == n:
                            word = words[place.word % LINE_WORDS]
                            m.d.sync += member(self.kernel, place.field.path).eq(
                                word[place.shift : place.shift + place.field.bits]
                            )
