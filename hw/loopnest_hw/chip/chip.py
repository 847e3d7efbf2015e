"""The whole chip, with its standard buses."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Module, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ..cache.cache import Cache
from ..cache.geometry import CacheConfig
from ..config import ChipConfig
from ..dispatch.dispatcher import Dispatcher
from ..generate import SharedModule
from ..pe import PE
from ..registers import PE_SHIFT, ErrorCode
from ..result.rooms import Rooms
from .axi import (
    AXI_LITE,
    CLIENT_BITS,
    ReadClient,
    axi_read,
    axi_write,
    manager_ports,
    read_clients,
    read_slot_bits,
    subordinate_ports,
)
from .command import CommandProcessor
from .counters import Counters
from .initialise import Initialiser
from .memory_port import ReadPort, WritePort
from .overlap import OverlapWatch
from .registers import RegisterFile
from .snapshot import SnapshotWriter
from .sweep import Sweep
from .write_arbiter import WriteArbiter


class Chip(wiring.Component):
    """A chip that is controlled over AXI4-Lite, and reads and writes memory over AXI4.

    The memory bus carries whole lines only, one beat each. Reads have identifiers of their own and
    may be answered in any order; writes have identifier 0.

    Several PEs and the dispatcher read through a `Cache`. It is empty when a kernel starts: what
    earlier kernels or the host have written is never in it, and `OverlapWatch` sees the first read
    of every line.

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
    m_axi_* : AXI4, out
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
                **manager_ports("m_axi", axi_write(config)),
                **manager_ports("m_axi", axi_read(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.registers = registers = RegisterFile(self._config)
        m.submodules.command = command = CommandProcessor(self._config)
        m.submodules.counters = counters = Counters(self._config)
        m.submodules.reads = reads = ReadPort(self._config)
        m.submodules.writes = writes = WritePort(self._config)
        kernel_reset = ResetInserter(command.hold)
        pes = self._pes(m, command.hold)
        dispatcher = self._dispatcher
        m.submodules.dispatcher = kernel_reset(dispatcher)
        initialiser = Initialiser(self._config)
        m.submodules.initialiser = kernel_reset(initialiser)
        m.submodules.snapshot = snapshot = SnapshotWriter()
        m.submodules.sweep = sweep = Sweep(self._config)

        self._connect(m, "s_axil", registers.bus)
        self._connect(m, "m_axi", reads.bus)
        self._connect(m, "m_axi", writes.bus)
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
            initialiser.result.eq(command.kernel.result),
            sweep.running.eq(~command.hold),
            sweep.ended.eq(command.ended),
            command.dispatcher_error.eq(dispatcher.error),
            command.reads_idle.eq(reads.idle),
            command.writes_idle.eq(writes.idle),
            command.write_error.eq(writes.error),
            command.bus_due.eq(reads.due | writes.due),
            command.bus_moves.eq(reads.moves | writes.moves),
            command.bus_clean.eq(reads.clean & writes.clean),
            reads.forget.eq(command.forget),
            writes.forget.eq(command.forget),
            writes.clear.eq(command.clear),
        ]
        m.submodules.overlap = overlap = OverlapWatch(self._config)
        m.d.comb += [
            overlap.result.eq(command.kernel.result),
            overlap.counters.eq(command.kernel.counters),
            overlap.running.eq(~command.hold),
            overlap.clear.eq(command.clear),
            overlap.read.eq(reads.bus.arvalid & reads.bus.arready),
            overlap.address.eq(reads.bus.araddr),
            overlap.descriptor.eq(
                reads.bus.arid.bit_select(read_slot_bits(self._config), CLIENT_BITS)
                == read_clients(self._config).index(ReadClient.COMMAND)
            ),
            command.overlap.eq(overlap.found),
            command.next_overlap.eq(overlap.next_found),
        ]
        for n, pe in enumerate(pes):
            wiring.connect(m, dispatcher.o[n], pe.blocks)
            wiring.connect(m, pe.retired, dispatcher.retired[n])
            m.d.comb += [
                pe.kernel.eq(command.kernel),
                pe.sweep.eq(sweep.clear),
                pe.sweep_set.eq(sweep.set),
            ]
            with m.If(~command.hold):
                m.d.comb += counters.events[n].eq(pe.events)
        self._errors(m, pes, command)
        self._writes(m, pes, command, initialiser, kernel_reset)
        self._reads(m, pes, command, reads, counters)
        # No line of the PE is left when the counters' follow.
        with m.If(command.hold):
            wiring.connect(m, snapshot.o, writes.i)
        with m.Else():
            wiring.connect(m, initialiser.o, writes.i)

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
        # Lines are counted at the memory port, without the counters'.
        m.d.comb += counters.line_written.eq(writes.accepted & ~command.hold)
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

    def _writes(
        self,
        m: Module,
        pes: list[Any],
        command: CommandProcessor,
        initialiser: Initialiser,
        kernel_reset: Any,
    ) -> None:
        """Connect the PEs' writes to the initialiser, and the rooms of their results."""
        done = Cat(pe.done for pe in pes).all() & initialiser.done
        if len(pes) == 1:
            wiring.connect(m, pes[0].write, initialiser.i)
            m.d.comb += command.pe_done.eq(done)
            return
        arbiter, rooms = WriteArbiter(self._config), Rooms(self._config)
        m.submodules.write_arbiter = kernel_reset(arbiter)
        m.submodules.rooms = kernel_reset(rooms)
        share = command.kernel.share
        wiring.connect(m, arbiter.o, initialiser.i)
        m.d.comb += [
            command.pe_done.eq(done & arbiter.idle),
            rooms.fiber_values.eq(share.fiber_values),
            rooms.fiber_blocks.eq(share.fiber_blocks),
        ]
        for n, pe in enumerate(pes):
            wiring.connect(m, pe.write, arbiter.i[n])
            wiring.connect(m, pe.room, rooms.pe[n])
            m.d.comb += pe.idle.eq(0 if n == 0 else ~share.rows)

    def _reads(
        self,
        m: Module,
        pes: list[Any],
        command: CommandProcessor,
        reads: ReadPort,
        counters: Counters,
    ) -> None:
        """Connect the units to the read port, the PEs and the dispatcher through the cache.

        In the first cycle of ``hold`` the PEs and the dispatcher still present requests. The port
        must not accept them: from the next cycle on the bus counts as drained.
        """
        clients: dict[ReadClient, Any] = {ReadClient.COMMAND: command}
        if len(pes) == 1:
            clients |= {ReadClient.PE: pes[0], ReadClient.DISPATCHER: self._dispatcher}
        else:
            m.submodules.cache = cache = Cache(CacheConfig.of(self._config))
            m.d.comb += cache.flush.eq(command.hold)
            for unit, request, reply in zip(
                (*pes, self._dispatcher), cache.request, cache.reply, strict=True
            ):
                wiring.connect(m, unit.request, request)
                wiring.connect(m, reply, unit.reply)
        read_lines = []
        for number, client in enumerate(read_clients(self._config)):
            port, answers = reads.request[number], reads.reply[number]
            running = Value.cast(1) if client is ReadClient.COMMAND else ~command.hold
            if client is ReadClient.CACHE:
                request, reply = cache.memory[0], cache.fill[0]
                slot = Cat(request.payload.waiter, request.payload.bank)
                answered = Cat(reply.payload.waiter, reply.payload.bank)
            else:
                request, reply = clients[client].request, clients[client].reply
                slot, answered = request.payload.slot, reply.payload.slot
            if client is not ReadClient.COMMAND:
                read_lines.append(reads.accepted[number])
            m.d.comb += [
                port.valid.eq(request.valid & running),
                port.payload.line.eq(request.payload.line),
                port.payload.slot.eq(slot),
                request.ready.eq(port.ready & running),
                reply.valid.eq(answers.valid & running),
                reply.payload.data.eq(answers.payload.data),
                reply.payload.error.eq(answers.payload.error),
                answered.eq(answers.payload.slot),
                answers.ready.eq(1),
            ]
        m.d.comb += counters.line_read.eq(Cat(read_lines).any())

    def _connect(self, m: Module, prefix: str, bus: Any) -> None:
        """Connect a unit's bus to the chip's ports ``prefix_*``."""
        for name, signal in bus.signature.members.items():
            port, inner = getattr(self, f"{prefix}_{name}"), getattr(bus, name)
            m.d.comb += port.eq(inner) if signal.flow is Out else inner.eq(port)
