"""Replacements for the PE and the dispatcher, with the same signatures, for benches of the chip.

Their behaviour is set by fields of the descriptor that have another meaning in the real units:

- the dispatcher reads ``row.0.size`` lines from ``dispatch.0.table`` on, in order, and sends a
  block token for each to PE 0, whose lanes are the line's lowest 16 bits; every other PE gets only
  the end;
- the PE reads ``operand.0.start`` lines from ``operand.0.values`` on and writes each, inverted, to
  the same place from ``result.values`` on, in the order of arrival; then it writes a line whose
  lowest word is the sum of the tokens' lanes, and the next one the descriptor's words, all of them
  combined by exclusive or; then it is done, or does what ``operand.1.start`` says (`Ending`).
  It has tables that no reset clears: if they are used before all sets were swept or an end left
  them empty, it is never done. A sweep before or in a kernel counts as an eviction.
"""

from enum import IntEnum
from functools import reduce
from operator import xor
from typing import Any

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw import tokens
from loopnest_hw.accumulate.place import set_bits
from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.pe import PE
from loopnest_hw.queue import Queue
from loopnest_hw.registers import STAGES, ErrorCode

LINE_SHIFT = 5
FAKE_WHERE = 77
"""Place of the error that `Ending.ERROR` reports."""


class Ending(IntEnum):
    """How the fake PE ends."""

    DONE = 0
    ERROR = 1
    """Reports `ErrorCode.SLOTS` at `FAKE_WHERE`."""
    HANG = 2
    """Nothing, forever."""
    STORM = 3
    """Reads and writes the first line forever."""


class FakePE(wiring.Component):
    """See the module's docstring. One read and one write per cycle."""

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(PE.ports(config))

    def elaborate(self, platform: Any) -> Module:
        """Build the circuit."""
        m = Module()
        config, kernel = self._config, self.kernel
        slots = config.pool_lines
        lines = kernel.operand[0].start
        storm = kernel.operand[1].start == Ending.STORM

        asked = Signal(32)
        slot = Signal(config.pool_bits)
        in_use = Signal(slots)
        number = Array(Signal(32, name=f"number_{s}") for s in range(slots))
        arrival = data.StructLayout({"number": 32, "data": 8 * LINE_BYTES})
        m.submodules.arrivals = arrivals = Queue(arrival, slots)
        reply = self.reply.payload
        m.d.comb += [
            self.request.valid.eq(((asked != lines) | storm) & ~in_use.bit_select(slot, 1)),
            self.request.payload.line.eq(kernel.operand[0].values[LINE_SHIFT:] + asked),
            self.request.payload.slot.eq(slot),
            self.reply.ready.eq(1),
            arrivals.i.valid.eq(self.reply.valid & ~reply.error),
            arrivals.i.payload.number.eq(number[reply.slot]),
            arrivals.i.payload.data.eq(~reply.data),
        ]
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [
                slot.eq(slot + 1),
                number[slot].eq(asked),
                in_use.bit_select(slot, 1).eq(1),
            ]
            with m.If(~storm):
                m.d.sync += asked.eq(asked + 1)
        with m.If(self.reply.valid):
            m.d.sync += in_use.bit_select(reply.slot, 1).eq(0)
            with m.If(reply.error):
                m.d.sync += [
                    self.error.code.eq(ErrorCode.READ_ERROR),
                    self.error.where.eq(number[reply.slot]),
                ]

        total = Signal(32)
        tokens_end = Signal()
        written = Signal(32)
        # the tables: which sets may not be empty, whether all have been swept since the last end
        begun = Signal()
        used = Signal(1 << set_bits(config), init=-1, reset_less=True)
        swept = Signal(reset_less=True)
        lost = Signal()
        m.d.comb += self.blocks.ready.eq(~tokens_end)
        with m.If(self.sweep):
            m.d.sync += [used.bit_select(self.sweep_set, 1).eq(0), swept.eq(1)]
        with m.Elif(begun):
            m.d.sync += used.eq(-1)
        with m.Else():
            m.d.sync += [begun.eq(1), lost.eq(used.any())]
        with m.If(self.blocks.valid & self.blocks.ready):
            m.d.sync += tokens_end.eq(self.blocks.payload.last)
            with m.If(self.blocks.payload.count != 0):
                m.d.sync += total.eq(total + self.blocks.payload.block[0].lanes)

        register = kernel.as_value()
        words = [register[at : at + 32] for at in range(0, len(register), 32)]
        final = Signal()
        m.d.comb += final.eq((written == lines) & tokens_end & ~storm)
        write = self.write.payload
        with m.If(final):
            m.d.comb += [
                self.write.valid.eq(1),
                write.line.eq(kernel.result.values[LINE_SHIFT:] + lines),
                write.data.eq(Cat(total, reduce(xor, words))),
                write.strobe.eq(0xFF),
            ]
        with m.Else():
            m.d.comb += [
                self.write.valid.eq(arrivals.o.valid),
                write.line.eq(kernel.result.values[LINE_SHIFT:] + arrivals.o.payload.number),
                write.data.eq(arrivals.o.payload.data),
                write.strobe.eq((1 << LINE_BYTES) - 1),
                arrivals.o.ready.eq(self.write.ready),
            ]
        wrote = self.write.valid & self.write.ready
        with m.If(wrote):
            m.d.sync += written.eq(written + 1)
        with m.If(written == lines + 1):
            m.d.comb += self.write.valid.eq(0)
            with m.If((kernel.operand[1].start == Ending.DONE) & ~lost):
                m.d.sync += [self.done.eq(1), used.eq(0), swept.eq(0)]
            with m.If(kernel.operand[1].start == Ending.ERROR):
                m.d.sync += [
                    self.error.code.eq(ErrorCode.SLOTS),
                    self.error.where.eq(FAKE_WHERE),
                ]
        m.d.comb += [
            self.events.multiplies.eq(wrote * 5),
            self.events.leaf_step.eq(wrote),
            self.events.again.eq(final & wrote),
            self.events.eviction.eq(final & wrote & swept),
            self.events.stage[len(STAGES) - 1].eq(wrote),
        ]
        return m


class FakeDispatcher(wiring.Component):
    """See the module's docstring. One line in flight."""

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "kernel": In(kernel_layout(config)),
                "o": Out(stream.Signature(tokens.joined(config, 1))).array(config.pes),
                "retired": In(stream.Signature(1)).array(config.pes),
                "request": Out(stream.Signature(tokens.line_request(config))),
                "reply": In(stream.Signature(tokens.line_reply(config))),
                "error": Out(tokens.ERROR),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the circuit."""
        m = Module()
        kernel = self.kernel
        sent = Signal(32)
        last = Signal()
        lanes = Signal(16)
        m.d.comb += [
            last.eq(sent + 1 == kernel.row[0].size),
            self.request.payload.line.eq(kernel.dispatch[0].table[LINE_SHIFT:] + sent),
            self.reply.ready.eq(1),
            self.o[0].payload.last.eq(last),
            self.o[0].payload.count.eq(1),
            self.o[0].payload.block[0].lanes.eq(lanes),
        ]
        m.d.comb += [retired.ready.eq(1) for retired in self.retired]
        with m.FSM():
            with m.State("ASK"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(self.reply.valid):
                m.d.sync += lanes.eq(self.reply.payload.data[:16])
                m.next = "SEND"
                with m.If(self.reply.payload.error):
                    m.d.sync += [
                        self.error.code.eq(ErrorCode.READ_ERROR),
                        self.error.where.eq(kernel.dispatch[0].table + (sent << LINE_SHIFT)),
                    ]
            with m.State("SEND"):
                m.d.comb += self.o[0].valid.eq(1)
                with m.If(self.o[0].ready):
                    m.d.sync += sent.eq(sent + 1)
                    m.next = "ASK"
                    with m.If(last):
                        m.next = "END"
            with m.State("END"):
                pass
        return m
