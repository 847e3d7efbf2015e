"""The control registers of `loopnest_hw.registers` behind AXI4-Lite."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, ChipConfig
from ..registers import (
    CONTROL,
    IDENTITY,
    OFFSETS,
    ErrorCode,
    configuration_word,
    counters,
    registers,
)
from ..tokens import ERROR
from .axi import AXI_LITE, CONTROL_ADDRESS_BITS, CONTROL_DATA_BITS, OKAY, SLAVE_ERROR

WORD_SHIFT = 2
"""Bits of a byte address below the register's number; they are ignored."""


class RegisterFile(wiring.Component):
    """The control registers, an AXI4-Lite subordinate.

    A write takes effect when its address and its data have both arrived, in either order; only
    strobed bytes are written. Reads and writes take at least two cycles each; each channel handles
    one access at a time, and the next waits until the response is accepted. A read at an offset
    without a register returns 0 and SLVERR; a write at an offset without a writable register has no
    effect and returns SLVERR.

    Members
    -------
    bus : AXI_LITE
    start, soft_reset, clear_done : Out(1)
        High for one cycle when the corresponding bit of the control or status register is written.
        A start in the same write as a soft reset is ignored.
    kernels : Out(32)
        Byte address of the first descriptor.
    busy, done, error, completed : In
        The command processor's state.
    late : In(1)
        Transfers that a soft reset gave up are still outstanding.
    counters : array of In(32), in the order of `registers.counters`
    irq : Out(1)
        ``done`` while the interrupt is enabled.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "bus": In(AXI_LITE),
                "start": Out(1),
                "soft_reset": Out(1),
                "clear_done": Out(1),
                "kernels": Out(ADDRESS_BITS),
                "busy": In(1),
                "done": In(1),
                "late": In(1),
                "error": In(ERROR),
                "completed": In(32),
                "counters": In(CONTROL_DATA_BITS).array(len(counters(config.pes))),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        interrupt_enable = Signal()
        self._write(m, interrupt_enable)
        self._read(m, interrupt_enable)
        m.d.comb += self.irq.eq(self.done & interrupt_enable)
        return m

    def _write(self, m: Module, interrupt_enable: Signal) -> None:
        bus = self.bus
        address = Signal(CONTROL_ADDRESS_BITS - WORD_SHIFT)
        data = Signal(CONTROL_DATA_BITS)
        strobe = Signal(CONTROL_DATA_BITS // 8)
        has_address = Signal()
        has_data = Signal()
        m.d.comb += [bus.awready.eq(~has_address), bus.wready.eq(~has_data)]

        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [has_address.eq(1), address.eq(bus.awaddr[WORD_SHIFT:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [has_data.eq(1), data.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)

        m.d.sync += [self.start.eq(0), self.soft_reset.eq(0), self.clear_done.eq(0)]
        with m.If(has_address & has_data & (~bus.bvalid | bus.bready)):
            m.d.sync += [
                has_address.eq(0),
                has_data.eq(0),
                bus.bvalid.eq(1),
                bus.bresp.eq(OKAY),
            ]
            with m.Switch(address):
                with m.Case(OFFSETS["control"] >> WORD_SHIFT):
                    with m.If(strobe[0]):
                        m.d.sync += [
                            self.start.eq(data[0] & ~data[1]),
                            self.soft_reset.eq(data[1]),
                            interrupt_enable.eq(data[2]),
                        ]
                with m.Case(OFFSETS["status"] >> WORD_SHIFT):
                    m.d.sync += self.clear_done.eq(strobe[0] & data[1])
                with m.Case(OFFSETS["kernels"] >> WORD_SHIFT):
                    for byte in range(len(strobe)):
                        with m.If(strobe[byte]):
                            m.d.sync += self.kernels.word_select(byte, 8).eq(
                                data.word_select(byte, 8)
                            )
                with m.Default():
                    m.d.sync += bus.bresp.eq(SLAVE_ERROR)

    def _read(self, m: Module, interrupt_enable: Signal) -> None:
        bus = self.bus
        failed = self.error.code != ErrorCode.NONE
        value: dict[str, Value | int] = {
            "identity": IDENTITY,
            "configuration": configuration_word(self._config),
            "control": Cat(Const(0, 2), interrupt_enable),
            "status": Cat(self.busy, self.done, failed, self.late),
            "error": self.error.code,
            "error_where": self.error.where,
            "kernels": self.kernels,
            "kernel_index": self.completed,
        }
        assert list(value) == [name for name, _, _ in CONTROL]
        named = counters(self._config.pes)
        value |= {name: v for (name, _), v in zip(named, self.counters, strict=True)}

        address = Signal(CONTROL_ADDRESS_BITS - WORD_SHIFT)
        has_address = Signal()
        m.d.comb += bus.arready.eq(~has_address)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [has_address.eq(1), address.eq(bus.araddr[WORD_SHIFT:])]
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(has_address & (~bus.rvalid | bus.rready)):
            m.d.sync += [has_address.eq(0), bus.rvalid.eq(1)]
            with m.Switch(address):
                for register in registers(self._config.pes):
                    with m.Case(register.offset >> WORD_SHIFT):
                        m.d.sync += [bus.rdata.eq(value[register.name]), bus.rresp.eq(OKAY)]
                with m.Default():
                    m.d.sync += [bus.rdata.eq(0), bus.rresp.eq(SLAVE_ERROR)]
