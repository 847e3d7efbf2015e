"""The dispatcher: row 0's scanners and joiner, which send block tokens to the PEs."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import ChipConfig
from ..kernel import kernel_layout
from ..registers import ErrorCode
from ..row.front import RowFront
from ..stream.bank import StreamBank, equal_rings
from ..tokens import ERROR, joined, line_reply, line_request, token
from .distributor import Distributor
from .weigher import WORDS, Weigher


class Dispatcher(wiring.Component):
    """Scans and joins row 0, one nest from each reset to the next.

    It has one scanner for each operand, on a line pool of its own. One block per cycle.

    With one PE, ``o[0]`` is the joiner's output, and ``retired`` is ignored. With more, the blocks
    are weighed (`Weigher`) and handed out (`Distributor`). Then most of the pool is the ring of the
    words that the weigher reads; the scanners' streams share the rest equally, a quarter or two
    lines each.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "kernel": In(kernel_layout(config)),
                "o": Out(stream.Signature(joined(config, 1))).array(config.pes),
                "retired": In(stream.Signature(1)).array(config.pes),
                "request": Out(stream.Signature(line_request(config))),
                "reply": In(stream.Signature(line_reply(config))),
                "error": Out(ERROR),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        lines = config.dispatcher_lines
        m.submodules.front = front = RowFront(config, 1)
        m.submodules.streams = streams = StreamBank(
            config,
            scanners=config.operands,
            values=0,
            words=WORDS if config.pes > 1 else 0,
            lines=lines,
        )
        connect(m, streams.request, flipped(self.request))
        connect(m, flipped(self.reply), streams.reply)
        if config.pes > 1:
            self._share(m, front.o, streams.words)
            m.d.comb += [
                front.turns.head.eq(self.kernel.share.head),
                front.turns.between.eq(self.kernel.share.between),
            ]
            scanned = scanned_lines(config)
            rings = [*equal_rings(2 * config.operands, scanned), (scanned, lines - 1)]
        else:
            connect(m, front.o, flipped(self.o[0]))
            m.d.comb += self.retired[0].ready.eq(1)
            rings = equal_rings(2 * config.operands, lines)
        for ring, (base, last) in zip(streams.ring, rings, strict=True):
            m.d.comb += [ring.base.eq(base), ring.last.eq(last)]

        started = Signal()
        m.d.comb += [
            front.row.eq(self.kernel.row[0]),
            front.i.valid.eq(~started),
            front.i.payload.eq(root(m, config, self.kernel)),
            front.context.ready.eq(1),
        ]
        with m.If(front.i.ready):
            m.d.sync += started.eq(1)
        for o in range(config.operands):
            scan = streams.scan[o]
            settings = self.kernel.dispatch[o]
            connect(m, front.request[o], scan.i)
            connect(m, scan.o, front.blocks[o])
            m.d.comb += [
                front.ahead[o].eq(scan.ahead),
                scan.bound.eq(front.bound[o]),
                scan.open.eq(settings.open),
                scan.table.eq(settings.table),
                scan.blocks.eq(settings.blocks),
                scan.size.eq(self.kernel.row[0].size),
            ]
        tensor = Cat(scan.fault.tensor for scan in streams.scan).any()
        coordinate = Cat(scan.fault.coordinate for scan in streams.scan).any()
        code = Mux(coordinate, ErrorCode.COORDINATE, ErrorCode.NONE)
        m.d.comb += [
            self.error.code.eq(
                Mux(streams.error, ErrorCode.READ_ERROR, Mux(tensor, ErrorCode.TENSOR, code))
            ),
            self.error.where.eq(0),  # the row
        ]
        return m

    def _share(self, m: Module, blocks: Any, words: Any) -> None:
        """Weigh the blocks and hand them out."""
        m.submodules.weigher = weigher = Weigher(self._config)
        m.submodules.distributor = distributor = Distributor(self._config)
        m.d.comb += [weigher.kernel.eq(self.kernel), distributor.kernel.eq(self.kernel)]
        connect(m, blocks, weigher.i)
        connect(m, weigher.request, words.i)
        connect(m, words.o, weigher.reply)
        connect(m, weigher.o, distributor.i)
        for p in range(self._config.pes):
            connect(m, distributor.o[p], flipped(self.o[p]))
            connect(m, flipped(self.retired[p]), distributor.retired[p])


def scanned_lines(config: ChipConfig) -> int:
    """Return the pool lines of the scanners' streams, where there are several PEs."""
    return max(config.dispatcher_lines // 4, 4 * config.operands)


def root(m: Module, config: ChipConfig, kernel: Any) -> Signal:
    """Return the token with which a nest starts (see docs/architecture.md, "A row")."""
    start = Signal(token(config), name="root")
    m.d.comb += start.fiber.eq(kernel.result.start)
    for o in range(config.operands):
        m.d.comb += [
            start.position[o].eq(kernel.operand[o].start),
            start.present[o].eq(kernel.operand[o].used),
        ]
    return start
