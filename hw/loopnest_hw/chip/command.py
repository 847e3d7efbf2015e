"""The command processor: runs a list of kernels from memory, one after the other."""

from typing import Any

from amaranth.hdl import Assert, Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, ChipConfig
from ..descriptor import descriptor_lines, places
from ..formal import FORMAL
from ..format import LINE_WORDS
from ..kernel import kernel_layout
from ..registers import ErrorCode
from ..tokens import ERROR, line_reply, line_request
from .axi import LINE_SIZE
from .check import DescriptorCheck
from .overlap import FOUND

WORD_BITS = 32


def member(kernel: data.View, path: str) -> Value:
    """Return the kernel's field by its dotted path."""
    value: Any = kernel
    for name in path.split("."):
        value = value[int(name) if name.isdecimal() else name]
    return value


class CommandProcessor(wiring.Component):
    """Fetches, checks and runs the descriptors from ``kernels`` on, up to the one marked last.

    A descriptor's lines are requested back to back. The PE and the dispatcher are in reset
    (``hold``) except while a kernel runs; then ``kernel`` is stable. The next descriptor is fetched
    as soon as the PE is done, and its kernel starts when every read and write of the last one has
    its response. A kernel of the list must not write the list.

    The first error since the start ends the run: the PE is put into reset, transfers in flight
    complete, then ``done`` rises. ``abort`` does the same, but clears ``done`` and ``error`` at its
    end.

    If the bus transfers nothing for ``config.watchdog`` cycles while a transfer is outstanding, the
    run ends with `ErrorCode.TIMEOUT`. Further runs end with it immediately, until all answers have
    arrived or an ``abort`` makes the ports forget them. (The ports can forget again only after the
    answers forgotten before have arrived: a memory that never answers requires a hardware reset.) A
    write that is on the bus by then still takes effect when the bus accepts it; until then the
    status bit ``late`` is set and its target must not be reused.

    Members
    -------
    start : In(1)
        Starts a run; ignored while ``busy``.
    abort : In(1)
    clear_done : In(1)
    kernels : In(ADDRESS_BITS)
        Byte address of the first descriptor, read at the start.
    busy, done : Out(1)
    error : Out(ERROR)
        First error since the start.
    completed : Out(32)
        Kernels completed since the start.
    clear : Out(1)
        A run starts: counters and sticky errors are cleared.
    hold : Out(1)
        Reset of the PE and the dispatcher.
    kernel : Out(kernel_layout)
    request, reply : streams of line reads
        A reply is always accepted. A waiting request is withdrawn if the run ends with
        `ErrorCode.TIMEOUT`, and only then.
    pe_done : In(1)
    pe_error, dispatcher_error : In(ERROR)
    overlap : In
        `OverlapWatch.found`.
    reads_idle, writes_idle, write_error, bus_due, bus_moves, bus_clean : In(1)
        The memory ports' state.
    forget : Out(1)
        The memory ports give up outstanding transfers.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "clear_done": In(1),
                "kernels": In(ADDRESS_BITS),
                "busy": Out(1),
                "done": Out(1),
                "error": Out(ERROR),
                "completed": Out(32),
                "clear": Out(1),
                "hold": Out(1, init=1),
                "kernel": Out(kernel_layout(config)),
                "request": Out(stream.Signature(line_request(config))),
                "reply": In(stream.Signature(line_reply(config))),
                "pe_done": In(1),
                "pe_error": In(ERROR),
                "dispatcher_error": In(ERROR),
                "overlap": In(FOUND),
                "reads_idle": In(1),
                "writes_idle": In(1),
                "write_error": In(1),
                "bus_due": In(1),
                "bus_moves": In(1),
                "bus_clean": In(1),
                "forget": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lines = descriptor_lines(self._config)
        m.submodules.check = check = DescriptorCheck(self._config)
        m.d.comb += check.kernel.eq(self.kernel)

        line = Signal(ADDRESS_BITS - LINE_SIZE)
        asking = Signal()
        asked = Signal(range(lines + 1))
        received = Signal(range(lines + 1))
        fetch_failed = Signal()
        failed_slot = Signal(range(lines))
        written = Signal()
        aborted = Signal()
        budget = Signal(32)
        drained = Signal()
        waited = Signal(range(self._config.watchdog + 1))
        dead = Signal()
        with m.If(~self.bus_due | self.bus_moves):
            m.d.sync += [waited.eq(0), dead.eq(0)]
        with m.Else():
            m.d.sync += waited.eq(waited + 1)
            with m.If(waited == self._config.watchdog - 1):
                m.d.sync += dead.eq(1)
        m.d.comb += [
            self.reply.ready.eq(1),
            drained.eq(self.reads_idle & self.writes_idle & ~asking),
            self.clear.eq(self.start & ~self.abort & ~self.busy),
            self.request.valid.eq(asking),
            self.request.payload.line.eq(line),
            self.request.payload.slot.eq(asked),
        ]

        def fetch() -> None:
            m.d.sync += [asking.eq(1), asked.eq(0), received.eq(0), fetch_failed.eq(0)]
            m.next = "FETCH"

        def fail(code: Value | ErrorCode, where: Value | int) -> None:
            m.d.sync += [self.hold.eq(1), self.error.code.eq(code), self.error.where.eq(where)]
            m.next = "DRAIN"

        def give_up() -> None:
            m.d.sync += [self.hold.eq(1), asking.eq(0), self.busy.eq(0), self.done.eq(~aborted)]
            with m.If(self.error.code == ErrorCode.NONE):
                m.d.sync += [
                    self.error.code.eq(ErrorCode.TIMEOUT),
                    self.error.where.eq(self.reads_idle & ~asking),
                ]
            m.next = "DEAD"

        def finish() -> None:
            m.d.sync += [self.busy.eq(0), self.done.eq(~aborted)]
            m.next = "IDLE"

        with m.If(self.clear_done):
            m.d.sync += self.done.eq(0)
        with m.If(self.abort):
            m.d.sync += aborted.eq(1)

        # All lines of a descriptor are requested, even if the run ends meanwhile.
        with m.If(asking & self.request.ready):
            m.d.sync += [line.eq(line + 1), asked.eq(asked + 1)]
            with m.If(asked == lines - 1):
                m.d.sync += asking.eq(0)
        with m.If(self.reply.valid):
            self._load(m)
            m.d.sync += received.eq(received + 1)
            # Of several errors, the one of the lowest line is reported, in whatever order they
            # arrive.
            with m.If(self.reply.payload.error):
                m.d.sync += fetch_failed.eq(1)
                with m.If(~fetch_failed | (self.reply.payload.slot < failed_slot)):
                    m.d.sync += failed_slot.eq(self.reply.payload.slot)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(aborted):
                    m.d.sync += [self.done.eq(0), self.error.eq(0), aborted.eq(self.abort)]
                with m.If(self.clear):
                    m.d.sync += [
                        self.busy.eq(1),
                        self.done.eq(0),
                        self.error.eq(0),
                        self.completed.eq(0),
                        written.eq(0),
                        line.eq(self.kernels[LINE_SIZE:]),
                    ]
                    fetch()
                    with m.If(self.kernels[:LINE_SIZE].any()):
                        m.d.sync += asking.eq(0)
                        fail(ErrorCode.BAD_DESCRIPTOR, 0)

            with m.State("FETCH"):
                with m.If(dead):
                    give_up()
                with m.Elif(aborted):
                    m.next = "DRAIN"
                with m.Elif(received == lines):
                    m.next = "SETTLE"

            # Wait for the last kernel's writes, and for the two cycles of the check.
            with m.State("SETTLE"):
                with m.If(dead):
                    give_up()
                with m.Elif(drained):
                    with m.If(written & ~self.write_error):
                        m.d.sync += self.completed.eq(self.completed + 1)
                    m.d.sync += written.eq(0)
                    m.next = "DECIDE"

            with m.State("DECIDE"):
                with m.If(aborted):
                    m.next = "DRAIN"
                with m.Elif(self.write_error):
                    fail(ErrorCode.WRITE_ERROR, 0)
                with m.Elif(self.overlap.valid):
                    fail(ErrorCode.OVERLAP, self.overlap.where)
                with m.Elif(fetch_failed):
                    # `line` is already that of the next descriptor.
                    where = (line - lines + failed_slot)[: len(line)]
                    fail(ErrorCode.READ_ERROR, Cat(Const(0, LINE_SIZE), where))
                with m.Elif(check.contradiction):
                    fail(ErrorCode.BAD_DESCRIPTOR, self.completed)
                with m.Else():
                    m.d.sync += [self.hold.eq(0), budget.eq(self.kernel.budget)]
                    m.next = "RUN"

            with m.State("RUN"):
                m.d.sync += budget.eq(budget - 1)
                with m.If(dead):
                    give_up()
                with m.Elif(aborted):
                    m.d.sync += self.hold.eq(1)
                    m.next = "DRAIN"
                with m.Elif(self.pe_error.code != ErrorCode.NONE):
                    fail(self.pe_error.code, self.pe_error.where)
                with m.Elif(self.dispatcher_error.code != ErrorCode.NONE):
                    fail(self.dispatcher_error.code, self.dispatcher_error.where)
                with m.Elif(self.write_error):
                    fail(ErrorCode.WRITE_ERROR, 0)
                with m.Elif(self.overlap.valid):
                    fail(ErrorCode.OVERLAP, self.overlap.where)
                with m.Elif(self.pe_done):
                    m.d.sync += [self.hold.eq(1), written.eq(1)]
                    with m.If(self.kernel.last):
                        m.next = "LAST"
                    with m.Else():
                        fetch()
                with m.Elif(budget == 0):
                    fail(ErrorCode.BUDGET, self.completed)

            with m.State("LAST"):
                with m.If(dead):
                    give_up()
                with m.Elif(drained):
                    with m.If(self.write_error):
                        m.d.sync += self.error.code.eq(ErrorCode.WRITE_ERROR)
                    with m.Else():
                        m.d.sync += self.completed.eq(self.completed + 1)
                    finish()

            with m.State("DRAIN"):
                with m.If(dead):
                    give_up()
                with m.Elif(drained):
                    finish()

            with m.State("DEAD"):
                # An abort waits for the answers forgotten before, or for all answers.
                with m.If(self.reads_idle & self.writes_idle):
                    m.next = "IDLE"
                with m.Elif(aborted & self.bus_clean):
                    m.d.comb += self.forget.eq(1)
                    m.next = "IDLE"
                with m.If(self.clear):
                    m.d.sync += [self.done.eq(1), aborted.eq(0)]

        if platform == FORMAL:
            fetching = Cat(fsm.ongoing(state) for state in ("FETCH", "SETTLE", "DRAIN"))
            m.d.comb += Assert(~asking | fetching.any())
        return m

    def _load(self, m: Module) -> None:
        """Load the fields of the arriving line into the kernel register."""
        words = data.ArrayLayout(WORD_BITS, LINE_WORDS)(self.reply.payload.data)
        with m.Switch(self.reply.payload.slot):
            for number in range(descriptor_lines(self._config)):
                with m.Case(number):
                    for place in places(self._config):
                        if place.word // LINE_WORDS == number:
                            word = words[place.word % LINE_WORDS]
                            m.d.sync += member(self.kernel, place.field.path).eq(
                                word[place.shift : place.shift + place.field.bits]
                            )
