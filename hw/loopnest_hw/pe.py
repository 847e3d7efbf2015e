"""The processing element: rows, leaf, accumulator and result path."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .accumulate.accumulator import Accumulator
from .accumulate.place import set_bits
from .config import EPILOGUE_READS, ChipConfig
from .descriptor import CellMode, ResultMode
from .dispatch.dispatcher import root
from .kernel import inner_loops, kernel_layout
from .leaf.leaf import Leaf
from .queue import Queue, SkidBuffer
from .registers import STAGES, ErrorCode
from .result.assembler import Assembler
from .result.combiner import Combiner
from .result.output import ResultPath
from .result.rooms import PIECES
from .row.expander import Expander
from .row.front import RowFront
from .row.replay import ReplayBuffer
from .row.row import Row
from .stream.bank import StreamBank
from .tokens import (
    ERROR,
    EVENTS,
    LINE_WRITE,
    PAIR,
    RESULT_BLOCK,
    StageState,
    joined,
    line_reply,
    line_request,
    terms,
)
from .unary import one_of


class PE(wiring.Component):
    """Runs the loops below row 0's joiner, one nest from each reset to the next.

    ``blocks`` are row 0's block tokens, with any subset of their lanes. ``retired`` has an item for
    each row-0 token that is done (payload 0) or is replayed (payload 1; the PE does that itself).
    ``done`` rises when the nest's last line has left through ``write``, and stays.

    ``kernel`` is constant while the PE runs. At reset, none of its reads may be in flight.

    Where row 0 selects the result's fibers, a nest without block tokens ends none, although its
    only item becomes a null token.

    One of several PEs (``config.pes``) gets a part of the nest's block tokens and then, if they
    share the rows, a null token that ends no result fiber. An ``idle`` one gets that alone.
    ``room`` gives it pieces of the result's regions (`result.rooms`).

    The accumulator's tables keep their contents at a reset, and are empty when ``done`` rises.
    Where they may hold anything, as at power-up or after a nest that was cut off, ``sweep`` has to
    clear them, one ``sweep_set`` per cycle, from the reset on.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(self.ports(config))

    @staticmethod
    def ports(config: ChipConfig) -> dict[str, wiring.Member]:
        """Return the ports of a PE."""
        return {
            "kernel": In(kernel_layout(config)),
            "blocks": In(stream.Signature(joined(config, 1))),
            "retired": Out(stream.Signature(1)),
            "request": Out(stream.Signature(line_request(config))),
            "reply": In(stream.Signature(line_reply(config))),
            "write": Out(stream.Signature(LINE_WRITE)),
            "done": Out(1),
            "error": Out(ERROR),
            "events": Out(EVENTS),
            "sweep": In(1),
            "sweep_set": In(set_bits(config)),
            **shared_ports(config),
        }

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.streams = streams = StreamBank(
            config,
            scanners=config.scanners,
            values=config.operands,
            words=2 * EPILOGUE_READS,
            lines=config.pool_lines,
        )
        connect(m, streams.request, flipped(self.request))
        connect(m, flipped(self.reply), streams.reply)
        for n, ring in enumerate(streams.ring):
            m.d.comb += Cat(ring.base, ring.last).eq(
                Cat(self.kernel.ring[n].base, self.kernel.ring[n].last)
            )

        replay = self._rows(m, streams)
        self._result(m, streams, replay)
        return m

    def _rows(self, m: Module, streams: StreamBank) -> ReplayBuffer:
        """Row 0's expander, the replay buffer, the middle rows and the leaf, in this order."""
        config = self._config
        m.submodules.row_0 = row_0 = Expander(config)
        m.submodules.replay = replay = ReplayBuffer(config)
        connect(m, flipped(self.blocks), row_0.i)
        connect(m, row_0.o, replay.i)
        m.d.comb += [
            row_0.row.eq(self.kernel.row[0]),
            row_0.context.valid.eq(1),
            row_0.context.payload.eq(root(m, config, self.kernel)),
        ]
        tokens = replay.o
        rows: list[Any] = []
        for r in range(1, config.rows - 1):
            m.submodules[f"row_{r}"] = row = Row(config)
            connect(m, tokens, row.i)
            tokens = row.o
            rows.append(row)
        m.submodules.leaf_row = leaf_row = RowFront(config, PAIR)
        m.submodules.leaf = self._leaf = leaf = Leaf(config)
        connect(m, tokens, leaf_row.i)
        connect(m, leaf_row.o, leaf.i)
        connect(m, leaf_row.context, leaf.context)
        rows.append(leaf_row)
        for r, row in enumerate(rows, start=1):
            m.d.comb += [row.row.eq(self.kernel.row[r]), row.epoch.eq(replay.epoch)]
        m.d.comb += [leaf.kernel.eq(self.kernel), leaf.epoch.eq(replay.epoch)]
        for o in range(config.operands):
            connect(m, leaf.request[o], streams.value[o].i)
            connect(m, streams.value[o].o, leaf.reply[o])
        self._connect_scanners(m, streams, rows)
        return replay

    def _connect_scanners(self, m: Module, streams: StreamBank, rows: list[Any]) -> None:
        """Connect each scanner to the cell that names it."""
        for s, scan in enumerate(streams.scan):
            settings = self.kernel.scanner[s]
            m.d.comb += [
                scan.open.eq(settings.open),
                scan.table.eq(settings.table),
                scan.blocks.eq(settings.blocks),
            ]
        operands = self._config.operands
        cells = [(r, row, o) for r, row in enumerate(rows, start=1) for o in range(operands)]
        # A cell has one scanner and a scanner one cell. The settings are stable long before the
        # first token, so the selection may be registered.
        chosen = [Signal(len(streams.scan), name=f"scanner_{r}_{o}") for r, _, o in cells]
        for (r, _, o), scanners in zip(cells, chosen, strict=True):
            cell = self.kernel.row[r].cell[o]
            scans = ~self.kernel.row[r].bypass & (cell.mode == CellMode.SCAN)
            m.d.sync += scanners.eq(Mux(scans, 1 << cell.scanner, 0))
        row_of = [
            Signal(range(self._config.rows), name=f"row_of_{s}") for s in range(len(streams.scan))
        ]
        self._faults = [(scan.fault, row) for scan, row in zip(streams.scan, row_of, strict=True)]
        for s, scan in enumerate(streams.scan):
            mine = [(scanners[s], r) for (r, _, _), scanners in zip(cells, chosen, strict=True)]
            m.d.sync += [
                scan.size.eq(one_of((here, self.kernel.row[r].size) for here, r in mine)),
                row_of[s].eq(one_of((here, Const(r, len(row_of[s]))) for here, r in mine)),
            ]
            asks = [
                (scanners[s], row.request[o])
                for (_, row, o), scanners in zip(cells, chosen, strict=True)
            ]
            takes = [
                scanners[s] & row.blocks[o].ready
                for (_, row, o), scanners in zip(cells, chosen, strict=True)
            ]
            m.d.comb += [
                scan.i.valid.eq(Cat(mine & request.valid for mine, request in asks).any()),
                scan.i.payload.as_value().eq(
                    one_of((mine, request.payload) for mine, request in asks)
                ),
                scan.o.ready.eq(Cat(takes).any()),
                scan.bound.as_value().eq(
                    one_of(
                        (scanners[s], row.bound[o])
                        for (_, row, o), scanners in zip(cells, chosen, strict=True)
                    )
                ),
            ]
        for (_, row, o), scanners in zip(cells, chosen, strict=True):
            blocks = [(scanners[s], scan.o) for s, scan in enumerate(streams.scan)]
            m.d.comb += [
                row.request[o].ready.eq(
                    Cat(scanners[s] & scan.i.ready for s, scan in enumerate(streams.scan)).any()
                ),
                row.blocks[o].valid.eq(Cat(mine & port.valid for mine, port in blocks).any()),
                row.blocks[o]
                .payload.as_value()
                .eq(one_of((mine, port.payload) for mine, port in blocks)),
                row.ahead[o]
                .as_value()
                .eq(one_of((scanners[s], scan.ahead) for s, scan in enumerate(streams.scan))),
            ]

    def _result(self, m: Module, streams: StreamBank, replay: ReplayBuffer) -> None:
        """Turn terms into blocks (accumulator or assembler), and write the blocks to memory."""
        config = self._config
        leaf = self._leaf
        m.submodules.accumulator = accumulator = Accumulator(config)
        m.submodules.combiner = combiner = Combiner(config)
        m.submodules.assembler = assembler = Assembler(config)
        m.submodules.result = result = ResultPath(config)
        # Buffers cut the path from the writer's `ready` to the lanes, and that from the assembler
        # through filler and epilogue. Two finished blocks can wait while the writer takes two
        # cycles for the block before them.
        m.submodules.terms = fed = SkidBuffer(terms(config))
        m.submodules.finished = finished = Queue(RESULT_BLOCK, 2)
        connect(m, leaf.o, fed.i)
        connect(m, accumulator.o, combiner.i)
        connect(m, finished.o, result.i)
        connect(m, leaf.lookup, accumulator.lookup)
        connect(m, accumulator.found, leaf.found)
        connect(m, result.request, streams.words.i)
        connect(m, streams.words.o, result.reply)
        connect(m, result.o, flipped(self.write))
        if config.pes > 1:
            connect(m, result.room, flipped(self.room))
            m.d.comb += result.share.eq(self.kernel.share)
        m.d.comb += result.silent.eq(self._silent(m))

        m.d.comb += [
            accumulator.sweep.eq(self.sweep),
            accumulator.sweep_set.eq(self.sweep_set),
            # Each result fiber belongs to one row-0 token, which the replay buffer can send again.
            accumulator.replayable.eq(self.kernel.drain_stop == inner_loops(config, self.kernel)),
            # Only blocks of a compressed result that pass unchanged can leave in pairs.
            accumulator.pairs.eq(
                self.kernel.result.compressed
                & ~self.kernel.result.full
                & ~self.kernel.epilogue.enable
                & (self.kernel.copies == 0)
            ),
            accumulator.terms.payload.eq(fed.o.payload),
            assembler.i.payload.eq(fed.o.payload),
            accumulator.reduction.eq(self.kernel.reduction),
            combiner.reduction.eq(self.kernel.reduction),
            combiner.copies.eq(self.kernel.copies),
            result.result.eq(self.kernel.result),
            result.epilogue.eq(self.kernel.epilogue),
            self.done.eq(result.done),
        ]
        retired = replay.retired
        with m.If(self.kernel.accumulate):
            m.d.comb += [
                accumulator.terms.valid.eq(fed.o.valid),
                fed.o.ready.eq(accumulator.terms.ready),
                finished.i.valid.eq(combiner.o.valid),
                finished.i.payload.eq(combiner.o.payload),
                combiner.o.ready.eq(finished.i.ready),
                self.retired.valid.eq(accumulator.retired.valid),
                self.retired.payload.eq(accumulator.retired.payload.again),
                accumulator.retired.ready.eq(self.retired.ready),
            ]
        with m.Else():
            m.d.comb += [
                assembler.i.valid.eq(fed.o.valid),
                fed.o.ready.eq(assembler.i.ready),
                finished.i.valid.eq(assembler.o.valid),
                finished.i.payload.eq(assembler.o.payload),
                assembler.o.ready.eq(finished.i.ready),
                self.retired.valid.eq(leaf.retired.valid),
                self.retired.payload.eq(leaf.retired.payload),
                leaf.retired.ready.eq(self.retired.ready),
            ]
        m.d.comb += [
            retired.valid.eq(self.retired.valid & self.retired.ready),
            retired.payload.eq(self.retired.payload),
            # All outstanding requests are stale.
            streams.flush.eq(self.retired.valid & self.retired.ready & self.retired.payload),
        ]
        self._observe(m, streams, accumulator, assembler, combiner, result)

    def _observe(
        self,
        m: Module,
        streams: StreamBank,
        accumulator: Accumulator,
        assembler: Assembler,
        combiner: Combiner,
        result: ResultPath,
    ) -> None:
        """Connect the errors (the command processor keeps the first) and the counters' events."""
        leaf = self._leaf
        overflow = leaf.overflow | accumulator.overflow | combiner.overflow | result.overflow
        causes = [
            (streams.error, ErrorCode.READ_ERROR, 0),
            *((fault.tensor, ErrorCode.TENSOR, row) for fault, row in self._faults),
            *((fault.coordinate, ErrorCode.COORDINATE, row) for fault, row in self._faults),
            (assembler.unordered, ErrorCode.KEYS, 0),
            (accumulator.error, ErrorCode.SLOTS, 0),
            (result.full.valid, ErrorCode.RESULT_FULL, result.full.where),
            (overflow, ErrorCode.OVERFLOW, 0),
        ]
        for raised, code, where in reversed(causes):
            with m.If(raised):
                m.d.sync += [self.error.code.eq(code), self.error.where.eq(where)]

        stage = dict(zip(STAGES, self.events.stage, strict=True))
        m.d.comb += [
            self.events.multiplies.eq(leaf.multiplies),
            self.events.leaf_step.eq(leaf.leaf_step),
            self.events.again.eq(self.retired.valid & self.retired.ready & self.retired.payload),
            self.events.eviction.eq(accumulator.evicted),
            self.events.pool_full.eq(streams.pool_full),
            self.events.result_blocks.eq(result.blocks_counted),
            self.events.result_values.eq(result.values_counted),
            stage["scan"].eq(_state(leaf.context.valid, leaf.i)),
            stage["fetch"].eq(_state(self.request.valid, self.request)),
            stage["leaf"].eq(leaf.state),
            stage["accumulate"].eq(accumulator.fill_state),
            stage["drain"].eq(accumulator.drain_state),
            stage["write"].eq(result.state),
        ]

    def _silent(self, m: Module) -> Value:
        """Return whether the nest's last item on the result path ends no fiber."""
        begun = Signal()
        empty = Signal()  # the first item had no block: there is no other one
        with m.If(self.blocks.valid & self.blocks.ready):
            m.d.sync += begun.eq(1)
            with m.If(~begun):
                m.d.sync += empty.eq(self.blocks.payload.count == 0)
        fibers = self.kernel.row[0].result_mode == ResultMode.FIBER
        if self._config.pes == 1:
            return fibers & empty
        return Mux(self.kernel.share.rows, fibers, self.idle | (fibers & empty))


def shared_ports(config: ChipConfig) -> dict[str, Any]:
    """Return the ports that only one of several PEs has."""
    return {"idle": In(1), "room": Out(PIECES)} if config.pes > 1 else {}


def _state(expected: Any, port: Any) -> Any:
    """Return the state of a stream's producer: starved if an item is expected and there is none."""
    return Mux(
        port.valid,
        Mux(port.ready, StageState.BUSY.value, StageState.STALLED.value),
        Mux(expected, StageState.STARVED.value, StageState.IDLE.value),
    )
