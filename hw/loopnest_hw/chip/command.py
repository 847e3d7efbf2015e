"""The command processor: runs a list of kernels from memory, one after the other."""

from typing import Any

from amaranth.hdl import Assert, Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import ADDRESS_BITS, LINE_SHIFT, ChipConfig
from ..formal import FORMAL
from ..kernel import kernel_layout
from ..registers import ErrorCode
from ..tokens import ERROR, line_reply, line_request
from .check import DescriptorCheck
from .fetch import DescriptorFetch
from .overlap import FOUND


class CommandProcessor(wiring.Component):
    """Fetches, checks and runs the descriptors from ``kernels`` on, up to the one marked last.

    The PEs and the dispatcher are in reset (``hold``) except while a kernel runs; then ``kernel``
    is stable. So are the cache and its prefetchers (``reading``), but before a list's first kernel
    they run as soon as the descriptor's ``prefetch`` is there, whether the kernel follows or is
    refused. (A later kernel may read what the one before it writes.)

    The next descriptor is read ahead while a kernel runs: its lines share the read port, so they
    cost the kernel at most one cycle each. What is wrong with it is reported in its turn. When the
    PE is done, the next descriptor moves into ``kernel``, and its kernel starts when every read and
    write of the last one has its response. A kernel of the list must not write the list.

    Where a descriptor names a place for the counters, they are written there after the kernel's
    result, unless the kernel ends with an error.

    The first error since the start ends the run: the PE is put into reset, transfers in flight
    complete, then ``done`` rises. ``abort`` does the same, but clears ``done`` and ``error`` at its
    end.

    If a bus transfers nothing for ``config.watchdog`` cycles while a transfer is outstanding, the
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
        Reset of the PEs and the dispatcher.
    reading : Out(1)
        The cache and its prefetchers run.
    kernel : Out(kernel_layout)
    request, reply : streams of line reads
        A reply is always accepted. A waiting request is withdrawn if the run ends with
        `ErrorCode.TIMEOUT`, and only then.
    ended : Out(1)
        The kernel in ``kernel`` is done in this cycle: the counters are written.
    counters_busy : In(1)
        That is still going on.
    stop : Out(1)
        It is given up.
    pe_done : In(1)
        The PEs are done, and all their lines are at the memory port.
    pe_error, dispatcher_error : In(ERROR)
    overlap, next_overlap : In
        `OverlapWatch.found` and ``next_found``.
    reads_idle, writes_idle, write_error, bus_clean : In(1)
        The memory ports' state.
    bus_due, bus_moves : In(memory_ports)
        That of each port: a transfer is due, something is transferred.
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
                "reading": Out(1),
                "kernel": Out(kernel_layout(config)),
                "request": Out(stream.Signature(line_request(config))),
                "reply": In(stream.Signature(line_reply(config))),
                "ended": Out(1),
                "counters_busy": In(1),
                "stop": Out(1),
                "pe_done": In(1),
                "pe_error": In(ERROR),
                "dispatcher_error": In(ERROR),
                "overlap": In(FOUND),
                "next_overlap": In(FOUND),
                "reads_idle": In(1),
                "writes_idle": In(1),
                "write_error": In(1),
                "bus_due": In(config.memory_ports),
                "bus_moves": In(config.memory_ports),
                "bus_clean": In(1),
                "forget": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.check = check = DescriptorCheck(self._config)
        m.submodules.fetch = fetch = DescriptorFetch(self._config)
        connect(m, fetch.request, flipped(self.request))
        connect(m, flipped(self.reply), fetch.reply)
        m.d.comb += [
            self.kernel.eq(fetch.kernel),
            check.kernel.eq(fetch.kernel),
            fetch.line.eq(self.kernels[LINE_SHIFT:]),
        ]

        written = Signal()
        aborted = Signal()
        budget = Signal(32)
        drained = Signal()
        dead = self._dead_bus(m)
        m.d.comb += [
            # All lines of a descriptor are requested, and those of the counters written, even if
            # the run ends meanwhile.
            drained.eq(self.reads_idle & self.writes_idle & ~fetch.busy & ~self.counters_busy),
            fetch.stop.eq(self.stop),
            self.clear.eq(self.start & ~self.abort & ~self.busy),
        ]

        def halt() -> None:
            m.d.sync += [self.hold.eq(1), self.reading.eq(0)]

        def drain() -> None:
            halt()
            m.next = "DRAIN"

        def fail(code: Value | ErrorCode, where: Value | int) -> None:
            m.d.sync += [self.error.code.eq(code), self.error.where.eq(where)]
            drain()

        def give_up() -> None:
            m.d.comb += self.stop.eq(1)
            m.d.sync += [self.busy.eq(0), self.done.eq(~aborted)]
            halt()
            with m.If(self.error.code == ErrorCode.NONE):
                m.d.sync += [
                    self.error.code.eq(ErrorCode.TIMEOUT),
                    self.error.where.eq(self.reads_idle & ~fetch.busy),
                ]
            m.next = "DEAD"

        def finish() -> None:
            m.d.sync += [self.busy.eq(0), self.done.eq(~aborted)]
            m.next = "IDLE"

        with m.If(self.clear_done):
            m.d.sync += self.done.eq(0)
        with m.If(self.abort):
            m.d.sync += aborted.eq(1)

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
                    ]
                    with m.If(self.kernels[:LINE_SHIFT].any()):
                        fail(ErrorCode.BAD_DESCRIPTOR, 0)
                    with m.Else():
                        m.d.comb += fetch.start.eq(1)
                        m.next = "FETCH"

            with m.State("FETCH"):
                m.d.comb += fetch.take.eq(1)
                with m.If(fetch.prefetches & ~fetch.busy):  # the other lines' requests go first
                    m.d.sync += self.reading.eq(1)
                with m.If(dead):
                    give_up()
                with m.Elif(aborted):
                    drain()
                with m.Elif(fetch.loaded):
                    m.next = "SETTLE"

            # Wait for the last kernel's reads and writes, and for the two cycles of the check. A
            # list's first kernel has none before it.
            with m.State("SETTLE"):
                with m.If(dead):
                    give_up()
                with m.Elif(drained | (self.reading & ~fetch.busy)):
                    with m.If(written & ~self.write_error):
                        m.d.sync += self.completed.eq(self.completed + 1)
                    m.d.sync += written.eq(0)
                    m.next = "DECIDE"

            with m.State("DECIDE"):
                with m.If(aborted):
                    drain()
                with m.Elif(self.write_error):
                    fail(ErrorCode.WRITE_ERROR, 0)
                with m.Elif(self.overlap.valid):
                    fail(ErrorCode.OVERLAP, self.overlap.where)
                with m.Elif(self.next_overlap.valid):
                    fail(ErrorCode.OVERLAP, self.next_overlap.where)
                with m.Elif(fetch.failed):
                    fail(ErrorCode.READ_ERROR, fetch.where)
                with m.Elif(check.contradiction):
                    fail(ErrorCode.BAD_DESCRIPTOR, self.completed)
                with m.Else():
                    m.d.sync += [self.hold.eq(0), self.reading.eq(1)]
                    m.d.sync += budget.eq(self.kernel.budget)
                    m.d.comb += fetch.ahead.eq(~self.kernel.last)
                    m.next = "RUN"

            with m.State("RUN"):
                m.d.sync += budget.eq(budget - 1)
                with m.If(dead):
                    give_up()
                with m.Elif(aborted):
                    drain()
                with m.Elif(self.pe_error.code != ErrorCode.NONE):
                    fail(self.pe_error.code, self.pe_error.where)
                with m.Elif(self.dispatcher_error.code != ErrorCode.NONE):
                    fail(self.dispatcher_error.code, self.dispatcher_error.where)
                with m.Elif(self.write_error):
                    fail(ErrorCode.WRITE_ERROR, 0)
                with m.Elif(self.overlap.valid):
                    fail(ErrorCode.OVERLAP, self.overlap.where)
                with m.Elif(self.pe_done):
                    m.d.comb += self.ended.eq(1)
                    m.d.sync += written.eq(1)
                    halt()
                    with m.If(self.kernel.last):
                        m.next = "LAST"
                    with m.Else():
                        m.next = "FETCH"
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
            requesting = Cat(
                fsm.ongoing(state) for state in ("FETCH", "SETTLE", "RUN", "LAST", "DRAIN")
            )
            m.d.comb += Assert(~fetch.busy | requesting.any())
        return m

    def _dead_bus(self, m: Module) -> Signal:
        """Return whether a bus has moved nothing for too long."""
        dead = Signal()
        buses = Signal(self._config.memory_ports)
        m.d.comb += dead.eq(buses.any())
        for p, bus in enumerate(buses):
            waited = Signal(range(self._config.watchdog + 1), name=f"waited_{p}")
            with m.If(~self.bus_due[p] | self.bus_moves[p]):
                m.d.sync += [waited.eq(0), bus.eq(0)]
            with m.Else():
                m.d.sync += waited.eq(waited + 1)
                with m.If(waited == self._config.watchdog - 1):
                    m.d.sync += bus.eq(1)
        return dead
