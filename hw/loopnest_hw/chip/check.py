"""The check of a kernel descriptor before its kernel runs.

The golden function, `loopnest_sim.model.check.contradictions`, lists the rules.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import (
    COORDINATE_BITS,
    LANES,
    LINE_BYTES,
    LINE_SHIFT,
    MAX_LOG2_COPIES,
    PAIR_COORDINATES,
    ChipConfig,
)
from ..descriptor import MAGIC, CellMode, LeafMode, Op, Reduction, ResultMode
from ..format import WORD_BYTES
from ..kernel import inner_loops, kernel_layout
from ..registers import snapshot_lines

WORD_SHIFT = (WORD_BYTES - 1).bit_length()
PAIR_SHIFT = (PAIR_COORDINATES - 1).bit_length()
LANE_BITS = (LANES - 1).bit_length()
EPILOGUE_MODES = 3


def _any(faults: Iterable[Value]) -> Value:
    return Cat(faults).any()


def _too_large(size: Value) -> Value:
    """Return whether a size exceeds 2^20."""
    return size[COORDINATE_BITS] & size[:COORDINATE_BITS].any()


class DescriptorCheck(wiring.Component):
    """Checks whether fields of a descriptor contradict each other. Fully pipelined, latency 2.

    A descriptor that passes may still be wrong; the kernel's budget bounds the run.

    Members
    -------
    kernel : In(kernel_layout)
    contradiction : Out(1)
        The kernel of two cycles ago must not run.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        self._counters_bytes = snapshot_lines(config.pes) * LINE_BYTES
        super().__init__({"kernel": In(kernel_layout(config)), "contradiction": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        faults = [
            self._nest(),
            self._result(),
            self._values(),
            self._regions(),
            self._rings(),
            *(self._row(r) for r in range(self._config.rows)),
            *(self._shared(s) for s in range(self._config.scanners)),
            *([self._share()] if self._config.pes > 1 else []),
            *([self._prefetch()] if self._config.cached else []),
        ]
        found = Signal(len(faults))
        m.d.sync += [found.eq(Cat(faults)), self.contradiction.eq(found.any())]
        return m

    def _nest(self) -> Value:
        kernel = self.kernel
        leaf = kernel.row[self._config.rows - 1]
        return _any(
            (
                kernel.magic != MAGIC,
                kernel.leaf_mode >= len(LeafMode),
                kernel.op1 >= len(Op),
                kernel.op2 >= len(Op),
                kernel.reduction >= len(Reduction),
                kernel.copies > MAX_LOG2_COPIES,
                (kernel.copies != 0) & ~kernel.accumulate,
                # no stop exceeds the number of loops: the fiber would never end
                kernel.drain_stop > inner_loops(self._config, kernel) + 1,
                kernel.row[0].bypass | leaf.bypass,
                (kernel.leaf_mode == LeafMode.AXPY)
                & ((leaf.result_mode != ResultMode.KEY) | (leaf.result_step != 1)),
                (kernel.leaf_mode == LeafMode.DOT) & (leaf.result_mode != ResultMode.HOLD),
            )
        )

    def _result(self) -> Value:
        result, epilogue = self.kernel.result, self.kernel.epilogue
        return _any(
            (
                _too_large(result.size),
                result.table[:LINE_SHIFT].any(),
                result.blocks[:LINE_SHIFT].any(),
                result.values[:LINE_SHIFT].any(),
                epilogue.bias[:WORD_SHIFT].any(),
                epilogue.scale[:WORD_SHIFT].any(),
                epilogue.bias_mode >= EPILOGUE_MODES,
                epilogue.scale_mode >= EPILOGUE_MODES,
            )
        )

    def _values(self) -> Value:
        """Return whether an operand's values are not aligned to their size."""
        narrow = self._config.dtype.narrow_bytes.bit_length() - 1
        return _any(
            Mux(
                operand.wide,
                operand.values[:WORD_SHIFT].any(),
                operand.values[:narrow].any() if narrow else 0,
            )
            for operand in self.kernel.operand
        )

    def _written(self) -> list[tuple[Value, Value, Value]]:
        """Return what the kernel writes: each region's begin, its end, and whether there is one."""
        result, counters = self.kernel.result, self.kernel.counters
        regions = [
            (result[name], result[f"{name}_end"], there)
            for name, there in (("values", Const(1)), ("blocks", result.compressed))
        ] + [(result.table, result.table_end, result.compressed)]
        return [*regions, (counters, counters + self._counters_bytes, counters.any())]

    def _regions(self) -> Value:
        """Return whether regions end before they begin or overlap, or the counters' is no place."""
        counters, regions = self.kernel.counters, self._written()
        last = (1 << len(counters)) - self._counters_bytes
        faults = [counters[:LINE_SHIFT].any(), counters > last]
        faults += [there & (begin > end) for begin, end, there in regions]
        for n, (begin, end, there) in enumerate(regions):
            for other_begin, other_end, other_there in regions[:n]:
                apart = (end <= other_begin) | (other_end <= begin)
                faults.append(there & other_there & ~apart)
        return _any(faults)

    def _prefetch(self) -> Value:
        """Return whether lines that are read ahead are written, or beyond the memory's end."""
        faults = []
        for span in self.kernel.prefetch:
            first = span.address[LINE_SHIFT:]
            behind = first + span.lines
            faults.append(behind[-1] & behind[:-1].any())
            for begin, end, there in self._written():
                end_line = (end + (LINE_BYTES - 1))[LINE_SHIFT:]
                meets = (first < end_line) & (begin[LINE_SHIFT:] < behind)
                faults.append(there & span.lines.any() & meets)
        return _any(faults)

    def _rings(self) -> Value:
        """Return whether rings are invalid or overlap: they must ascend."""
        rings = list(self.kernel.ring)
        faults = [ring.base > ring.last for ring in rings]
        faults += [ring.last >= after.base for ring, after in pairwise(rings)]
        return _any(faults)

    def _share(self) -> Value:
        """Return whether the PEs must not share out row 0."""
        kernel = self.kernel
        mode = kernel.row[0].result_mode
        one_fiber = kernel.result.compressed | kernel.result.full
        head = kernel.share.head
        scans = (cell.mode == CellMode.SCAN for cell in kernel.row[0].cell)
        all_of_it = Cat(Const(0, PAIR_SHIFT), head) >= kernel.row[0].size
        return kernel.share.rows & (
            (mode == ResultMode.HOLD)
            | (kernel.row[0].result_step == 0)
            | (mode == ResultMode.KEY) & one_fiber
            | (mode == ResultMode.FIBER) & (kernel.drain_stop > inner_loops(self._config, kernel))
            | head.any() & ((mode != ResultMode.FIBER) | _any(scans) | all_of_it)
        ) | (head.any() & ~kernel.share.rows)

    def _row(self, r: int) -> Value:
        row = self.kernel.row[r]
        cells = [row.cell[o] for o in range(self._config.operands)]
        scans = [cell.mode == CellMode.SCAN for cell in cells]
        ones = Cat(cell.ones for cell in cells)
        faults = [
            row.result_mode >= len(ResultMode),
            _too_large(row.size),
            ~(_any(scans) | ones.any()),
            (ones & (ones - 1)[: len(ones)]).any(),
        ]
        if r < self._config.rows - 1:
            # In AXPY, a token's key is a multiple of the block size.
            odd = row.result_step[:LANE_BITS].any()
            axpy = self.kernel.leaf_mode == LeafMode.AXPY
            faults.append(axpy & (row.result_mode == ResultMode.KEY) & odd)
        for cell, scan in zip(cells, scans, strict=True):
            faults += [cell.mode >= len(CellMode), scan & cell.ones]
            if r > 0:
                faults.append(scan & (cell.scanner >= self._config.scanners))
        return ~row.bypass & _any(faults)

    def _shared(self, scanner: int) -> Value:
        """Return whether two cells below row 0 use the scanner."""
        users = Cat(
            ~row.bypass & (cell.mode == CellMode.SCAN) & (cell.scanner == scanner)
            for row in list(self.kernel.row)[1:]
            for cell in row.cell
        )
        return (users & (users - 1)[: len(users)]).any()
