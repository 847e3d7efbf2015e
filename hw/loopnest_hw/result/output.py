"""The result path: filler, epilogue, writer."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .. import tokens
from ..config import EPILOGUE_READS, LANES, ChipConfig
from ..descriptor import Output
from ..kernel import kernel_layout
from .epilogue import Epilogue
from .filler import Filler
from .rooms import shared_members
from .writer import Writer

FULL_ERROR = data.StructLayout({"valid": 1, "where": 2})
"""The first region that was too small: block words (``where`` 0), values (1), the table (2)."""


class ResultPath(wiring.Component):
    """Writes a nest's result blocks to memory.

    One item per cycle without an epilogue, else two lanes per cycle (see `Filler`, `Epilogue` and
    `Writer`). Blocks wait while the memory port accepts no writes.

    Parameters
    ----------
    config : ChipConfig
        The chip.

    Members
    -------
    result, epilogue : In
        The descriptor's members of these names. Constant from two cycles before the first block on.
    i : In(stream.Signature(tokens.RESULT_BLOCK))
        With a second block only if the result is compressed and not filled, and there is no
        epilogue.
    o : Out(stream.Signature(tokens.LINE_WRITE))
    request : Out(stream), reply : In(stream)
        The epilogue's.
    done : Out(1)
        The final block has arrived and all lines are output. Stays until reset.
    full : Out(FULL_ERROR)
        Something did not fit and was not written. It rises just before `done`, so that ``where``
        does not depend on timing. Stays until reset.
    overflow : Out(1)
        int8: the epilogue's sum does not fit int32. Stays until reset.
    line_written : Out(1)
        A line is output in this cycle.
    blocks_counted, values_counted : Out
        As `Writer`'s.
    share, room
        As `Writer`'s; with several PEs only.
    silent : In(1)
        The final item ends no fiber: the nest has no coordinate of row 0, or the last one is
        another PE's.
    state : Out(tokens.StageState)
        The write stage: STALLED if a line waits for `o`, BUSY if a block or a line is inside,
        STARVED between the first block and `done`, else IDLE.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        kernel = kernel_layout(config)
        super().__init__(
            {
                "result": In(kernel.members["result"]),
                "epilogue": In(kernel.members["epilogue"]),
                "i": In(stream.Signature(tokens.RESULT_BLOCK)),
                "o": Out(stream.Signature(tokens.LINE_WRITE)),
                "request": Out(stream.Signature(tokens.gather_request(2 * EPILOGUE_READS))),
                "reply": In(stream.Signature(tokens.gather_reply(2 * EPILOGUE_READS))),
                "done": Out(1),
                "full": Out(FULL_ERROR),
                "overflow": Out(1),
                "line_written": Out(1),
                "blocks_counted": Out(range(tokens.PAIR + 1)),
                "values_counted": Out(range(LANES + 1)),
                "state": Out(tokens.StageState),
                **shared_members(config),
                "silent": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.filler = filler = Filler()
        m.submodules.epilogue = epilogue = Epilogue(self._config)
        m.submodules.writer = writer = Writer(self._config)
        connect(m, flipped(self.i), filler.i)
        connect(m, filler.o, epilogue.i)
        connect(m, epilogue.o, writer.i)
        connect(m, epilogue.request, flipped(self.request))
        connect(m, flipped(self.reply), epilogue.reply)
        connect(m, writer.o, flipped(self.o))
        m.d.comb += [
            filler.full.eq(self.result.full),
            filler.size.eq(self.result.size),
            filler.fill.eq(self.result.fill),
            epilogue.settings.eq(self.epilogue),
            epilogue.narrow.eq(self.result.output == Output.NARROW),
            writer.result.eq(self.result),
            self.full.valid.eq(writer.done & writer.full.as_value().any()),
            self.full.where.eq(Mux(writer.full.blocks, 0, Mux(writer.full.values, 1, 2))),
            self.blocks_counted.eq(writer.blocks_counted),
            self.values_counted.eq(writer.values_counted),
            self.overflow.eq(epilogue.overflow),
        ]
        m.d.sync += self.done.eq(writer.done)
        if self._config.pes > 1:
            connect(m, writer.room, flipped(self.room))
            m.d.comb += writer.share.eq(self.share)
        with m.If(self.silent & self.i.payload.final):
            m.d.comb += filler.i.payload.last.eq(0)

        started = Signal()
        with m.If(self.i.valid):
            m.d.sync += started.eq(1)
        states = tokens.StageState
        m.d.comb += [
            self.line_written.eq(self.o.valid & self.o.ready),
            self.state.eq(
                Mux(
                    self.o.valid,
                    Mux(self.o.ready, states.BUSY, states.STALLED),
                    Mux(
                        writer.busy | self.i.valid,
                        states.BUSY,
                        Mux(started & ~writer.done, states.STARVED, states.IDLE),
                    ),
                )
            ),
        ]
        return m
