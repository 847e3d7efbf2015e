"""The whole chip, with its standard buses."""

from typing import Any

from amaranth.hdl import Module, ResetInserter, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ..config import ChipConfig
from ..dispatcher import Dispatcher
from ..pe import PE
from .axi import AXI_LITE, CLIENT_BITS, axi_read, axi_write, manager_ports, subordinate_ports
from .command import CommandProcessor
from .counters import Counters
from .initialise import Initialiser
from .memory_port import (
    COMMAND_CLIENT,
    DISPATCHER_CLIENT,
    PE_CLIENT,
    ReadPort,
    WritePort,
)
from .overlap import OverlapWatch
from .registers import RegisterFile
from .snapshot import SnapshotWriter
from .sweep import Sweep


class Chip(wiring.Component):
    """A chip of one PE, controlled over AXI4-Lite, that reads and writes memory over AXI4.

    The memory bus carries whole lines only, one beat each. Reads have identifiers of their own and
    may be answered in any order; writes have identifier 0.

    Parameters
    ----------
    config : ChipConfig
    pe, dispatcher : Component, optional
        Replacements with the same signatures, for benches.

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
        pe: wiring.Component | None = None,
        dispatcher: wiring.Component | None = None,
    ) -> None:
        self._config = config
        self._pe: Any = PE(config) if pe is None else pe
        self._dispatcher: Any = Dispatcher(config) if dispatcher is None else dispatcher
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
        m.submodules.counters = counters = Counters()
        m.submodules.reads = reads = ReadPort(self._config)
        m.submodules.writes = writes = WritePort(self._config)
        pe, dispatcher = self._pe, self._dispatcher
        m.submodules.pe = ResetInserter(command.hold)(pe)
        m.submodules.dispatcher = ResetInserter(command.hold)(dispatcher)
        initialiser = Initialiser(self._config)
        m.submodules.initialiser = ResetInserter(command.hold)(initialiser)
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
            pe.kernel.eq(command.kernel),
            dispatcher.kernel.eq(command.kernel),
            initialiser.result.eq(command.kernel.result),
            command.pe_done.eq(pe.done & initialiser.done),
            command.pe_error.eq(pe.error),
            sweep.running.eq(~command.hold),
            sweep.ended.eq(command.ended),
            pe.sweep.eq(sweep.clear),
            pe.sweep_set.eq(sweep.set),
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
            # There is one PE, so no load balancing.
            pe.retired.ready.eq(1),
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
                reads.bus.arid.bit_select(self._config.pool_bits, CLIENT_BITS) == COMMAND_CLIENT
            ),
            command.overlap.eq(overlap.found),
            command.next_overlap.eq(overlap.next_found),
        ]
        wiring.connect(m, dispatcher.o, pe.blocks)
        wiring.connect(m, pe.write, initialiser.i)
        self._connect_reads(m, reads, command)
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
        with m.If(~command.hold):
            m.d.comb += counters.events.eq(pe.events)
        # Lines are counted at the memory port, including the dispatcher's, without the counters'.
        m.d.comb += [
            counters.line_read.eq(reads.accepted[PE_CLIENT] | reads.accepted[DISPATCHER_CLIENT]),
            counters.line_written.eq(writes.accepted & ~command.hold),
        ]
        return m

    def _connect_reads(self, m: Module, reads: ReadPort, command: CommandProcessor) -> None:
        """Connect the units to the read port.

        In the first cycle of ``hold`` the PE and the dispatcher still present requests. The ports
        must not accept them: from the next cycle on the bus counts as drained.
        """
        running = ~command.hold
        for number, unit, open_ in (
            (PE_CLIENT, self._pe, running),
            (DISPATCHER_CLIENT, self._dispatcher, running),
            (COMMAND_CLIENT, command, Value.cast(1)),
        ):
            port, answers = reads.request[number], reads.reply[number]
            m.d.comb += [
                port.valid.eq(unit.request.valid & open_),
                port.payload.eq(unit.request.payload),
                unit.request.ready.eq(port.ready & open_),
                unit.reply.valid.eq(answers.valid),
                unit.reply.payload.eq(answers.payload),
                answers.ready.eq(1),
            ]

    def _connect(self, m: Module, prefix: str, bus: Any) -> None:
        """Connect a unit's bus to the chip's ports ``prefix_*``."""
        for name, signal in bus.signature.members.items():
            port, inner = getattr(self, f"{prefix}_{name}"), getattr(bus, name)
            m.d.comb += port.eq(inner) if signal.flow is Out else inner.eq(port)
