"""The whole chip, with its standard buses."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Module, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ..cache.cache import Cache
from ..cache.geometry import CacheConfig
from ..cache.prefetcher import Prefetcher
from ..config import ChipConfig
from ..dispatch.dispatcher import Dispatcher
from ..generate import SharedModule
from ..pe import PE
from ..registers import PE_SHIFT, ErrorCode
from ..result.rooms import Rooms
from .axi import (
    AXI_LITE,
    memory_ports,
    memory_prefixes,
    subordinate_ports,
)
from .command import CommandProcessor
from .counters import Counters
from .memory_interface import MemoryInterface
from .registers import RegisterFile
from .snapshot import SnapshotWriter
from .sweep import Sweep
from .write_path import WritePath


class Chip(wiring.Component):
    """A chip that is controlled over AXI4-Lite, and reads and writes memory over AXI4.

    The memory buses carry whole lines only, one beat each. Reads have identifiers of their own and
    may be answered in any order; writes have identifier 0. Of two buses, each carries every second
    line.

    Several PEs and the dispatcher, or one if so configured, read through a `Cache`. It is empty
    when a kernel starts: what earlier kernels or the host have written is never in it, and
    `OverlapWatch` sees the first read of every line.

    Parameters
    ----------
    config : ChipConfig
    pe, dispatcher : callable, optional
        Make replacements with the same signatures, for benches.

    Members
    -------
    irq : Out(1)
        The run has ended, while the interrupt is enabled.
    s_axil_* : AXI4-Lite, in
    m_axi_*, or m0_axi_* and m1_axi_* : AXI4, out
        The memory ports (`axi.memory_prefixes`).
    """

    def __init__(
        self,
        config: ChipConfig,
        *,
        pe: Callable[[ChipConfig], wiring.Component] = PE,
        dispatcher: Callable[[ChipConfig], wiring.Component] = Dispatcher,
    ) -> None:
        self._config = config
        self._pe = pe
        self._dispatcher: Any = dispatcher(config)
        super().__init__(
            {
                "irq": Out(1),
                **subordinate_ports("s_axil", AXI_LITE),
                **memory_ports(config),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.registers = registers = RegisterFile(self._config)
        m.submodules.command = command = CommandProcessor(self._config)
        m.submodules.counters = counters = Counters(self._config)
        m.submodules.memory = memory = MemoryInterface(self._config)
        m.submodules.write_path = write_path = WritePath(self._config)
        kernel_reset = ResetInserter(command.hold)
        pes = self._pes(m, command.hold)
        dispatcher = self._dispatcher
        m.submodules.dispatcher = kernel_reset(dispatcher)
        m.submodules.snapshot = snapshot = SnapshotWriter(self._config)
        m.submodules.sweep = sweep = Sweep(self._config)

        self._connect(m, "s_axil", registers.bus)
        for p, prefix in enumerate(memory_prefixes(self._config)):
            self._connect(m, prefix, memory.read_bus[p])
            self._connect(m, prefix, memory.write_bus[p])
            wiring.connect(m, write_path.o[p], memory.write[p])
        wiring.connect(m, command.request, memory.command_request)
        wiring.connect(m, memory.command_reply, command.reply)
        wiring.connect(m, snapshot.o, write_path.counters)
        m.d.comb += [
            self.irq.eq(registers.irq),
            command.start.eq(registers.start),
            command.abort.eq(registers.soft_reset),
            command.clear_done.eq(registers.clear_done),
            command.kernels.eq(registers.kernels),
            registers.busy.eq(command.busy),
            registers.done.eq(command.done),
            registers.late.eq(~command.bus_clean),
            registers.error.eq(command.error),
            registers.completed.eq(command.completed),
            dispatcher.kernel.eq(command.kernel),
            sweep.running.eq(~command.hold),
            sweep.ended.eq(command.ended),
            command.dispatcher_error.eq(dispatcher.error),
            memory.running.eq(~command.hold),
            memory.reading.eq(command.reading),
            memory.clear.eq(command.clear),
            memory.result.eq(command.kernel.result),
            memory.counters.eq(command.kernel.counters),
            memory.forget.eq(command.forget),
            command.overlap.eq(memory.overlap),
            command.next_overlap.eq(memory.next_overlap),
            command.reads_idle.eq(memory.reads_idle),
            command.writes_idle.eq(memory.writes_idle),
            command.write_error.eq(memory.write_error),
            command.bus_due.eq(memory.due),
            command.bus_moves.eq(memory.moves),
            command.bus_clean.eq(memory.clean),
            write_path.result.eq(command.kernel.result),
            write_path.hold.eq(command.hold),
            command.pe_done.eq(Cat(pe.done for pe in pes).all() & write_path.done),
        ]
        for n, pe in enumerate(pes):
            wiring.connect(m, dispatcher.o[n], pe.blocks)
            wiring.connect(m, pe.retired, dispatcher.retired[n])
            wiring.connect(m, pe.write, write_path.pe[n])
            m.d.comb += [
                pe.kernel.eq(command.kernel),
                pe.sweep.eq(sweep.clear),
                pe.sweep_set.eq(sweep.set),
            ]
            with m.If(~command.hold):
                m.d.comb += counters.events[n].eq(pe.events)
        self._errors(m, pes, command)
        if self._config.cached:
            self._read_through_cache(m, pes, command, memory, counters)
        else:
            self._connect_readers(m, pes, memory.request[0], memory.reply[0])
        if len(pes) > 1:
            self._share_result(m, pes, command.kernel.share, kernel_reset)

        m.d.comb += [
            snapshot.start.eq(command.ended),
            snapshot.address.eq(command.kernel.counters),
            snapshot.stop.eq(command.stop),
            snapshot.content.eq(counters.line),
            command.counters_busy.eq(snapshot.busy),
            counters.number.eq(snapshot.number),
            counters.mark.eq(command.ended),
            counters.clear.eq(command.clear),
            counters.busy.eq(command.busy),
        ]
        m.d.comb += [c.eq(v) for c, v in zip(registers.counters, counters.value, strict=True)]
        # Lines are counted at the memory ports, without the command processor's and the counters'.
        m.d.comb += counters.lines_read.eq(memory.lines_read)
        with m.If(~command.hold):
            m.d.comb += counters.lines_written.eq(memory.lines_written)
        return m

    def _pes(self, m: Module, hold: Value) -> list[Any]:
        """Add the PEs; several are instances of one module."""
        count = self._config.pes
        pe = self._pe(self._config)
        if count == 1:
            m.submodules.pe = ResetInserter(hold)(pe)
            return [pe]
        pes = [SharedModule(pe, "pe", reset=hold) for _ in range(count)]
        for n, instance in enumerate(pes):
            m.submodules[f"pe_{n}"] = instance
        return pes

    def _errors(self, m: Module, pes: list[Any], command: CommandProcessor) -> None:
        """Report the error of the first PE that has one, with its number.

        A result that does not fit is reported when all PEs are done, so that `result_values` tells
        how large it is.
        """
        unfinished = Signal()
        m.d.comb += unfinished.eq(~Cat(pe.done for pe in pes).all())
        for n, pe in reversed(list(enumerate(pes))):
            early = (pe.error.code == ErrorCode.RESULT_FULL) & unfinished
            with m.If((pe.error.code != ErrorCode.NONE) & ~early):
                m.d.comb += command.pe_error.eq(pe.error)
                # A failed read has no place but a descriptor's.
                with m.If(pe.error.code != ErrorCode.READ_ERROR):
                    m.d.comb += command.pe_error.where.eq(pe.error.where | n << PE_SHIFT)

    def _share_result(self, m: Module, pes: list[Any], share: Any, kernel_reset: Any) -> None:
        """Give several PEs room for their parts of the result."""
        rooms = Rooms(self._config)
        m.submodules.rooms = kernel_reset(rooms)
        m.d.comb += [
            rooms.fiber_values.eq(share.fiber_values),
            rooms.fiber_blocks.eq(share.fiber_blocks),
        ]
        for n, pe in enumerate(pes):
            wiring.connect(m, pe.room, rooms.pe[n])
            m.d.comb += pe.idle.eq(0 if n == 0 else ~share.rows)

    def _connect_readers(self, m: Module, pes: list[Any], requests: Any, replies: Any) -> None:
        """Connect the PEs and the dispatcher to what they read through."""
        for unit, request, reply in zip((*pes, self._dispatcher), requests, replies, strict=True):
            wiring.connect(m, unit.request, request)
            wiring.connect(m, reply, unit.reply)

    def _read_through_cache(
        self,
        m: Module,
        pes: list[Any],
        command: CommandProcessor,
        memory: MemoryInterface,
        counters: Counters,
    ) -> None:
        """Connect the PEs and the dispatcher to the cache, and that to the memory ports."""
        m.submodules.cache = cache = Cache(CacheConfig.of(self._config))
        m.d.comb += cache.flush.eq(~command.reading)
        if len(pes) > 1:
            with m.If(command.reading):
                m.d.comb += counters.cache.eq(cache.events)
        self._connect_readers(m, pes, cache.request, cache.reply)
        for p, (miss, fill) in enumerate(zip(cache.memory, cache.fill, strict=True)):
            m.submodules[f"prefetcher_{p}"] = prefetcher = ResetInserter(~command.reading)(
                Prefetcher(self._config, p)
            )
            m.d.comb += prefetcher.ranges.eq(command.kernel.prefetch)
            wiring.connect(m, prefetcher.o, cache.prefetch[p])
            request, reply = memory.request[p][0], memory.reply[p][0]
            m.d.comb += [
                request.valid.eq(miss.valid),
                request.payload.line.eq(miss.payload.line),
                request.payload.slot.eq(Cat(miss.payload.waiter, miss.payload.bank)),
                miss.ready.eq(request.ready),
                fill.valid.eq(reply.valid),
                fill.payload.data.eq(reply.payload.data),
                fill.payload.error.eq(reply.payload.error),
                Cat(fill.payload.waiter, fill.payload.bank).eq(reply.payload.slot),
                reply.ready.eq(1),
            ]

    def _connect(self, m: Module, prefix: str, bus: Any) -> None:
        """Connect a unit's bus to the chip's ports ``prefix_*``."""
        for name, signal in bus.signature.members.items():
            port, inner = getattr(self, f"{prefix}_{name}"), getattr(bus, name)
            m.d.comb += port.eq(inner) if signal.flow is Out else inner.eq(port)
