"""The level whose fibers' lengths are the weights of row 0's coordinates."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, POSITION_BITS, ChipConfig
from ..descriptor import CellMode
from ..kernel import kernel_layout
from ..unary import lowest, one_of


def weighed_level(config: ChipConfig) -> data.StructLayout:
    """A level, and how the positions of its fibers follow from row 0's blocks.

    ``operand``: one-hot, the operand to which the level belongs, or 0: there is none. ``ranked``:
    row 0 scans the operand, so its coordinates are numbered by rank; ``masked``: it is present only
    in the lanes of its mask. ``start``: its position before row 0. ``table`` and ``open``: the
    level's position table.
    """
    return data.StructLayout(
        {
            "operand": config.operands,
            "ranked": 1,
            "masked": 1,
            "start": POSITION_BITS,
            "table": ADDRESS_BITS,
            "open": 1,
        }
    )


class WeighedLevel(wiring.Component):
    """Finds the first level that a loop below row 0 scans at a position given by row 0.

    The loop is the first row below row 0 that is not bypassed, the level that of its lowest operand
    whose cell scans there and, in row 0, follows or scans with step 1. An operand that is not used
    has no level.

    ``o`` is valid two cycles after ``kernel``, which must be constant from then on. Golden
    function: `loopnest_sim.model.weigh.weighed_level`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__({"kernel": In(kernel_layout(config)), "o": Out(weighed_level(config))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, kernel = self._config, self.kernel
        operands = range(config.operands)
        first = Signal(config.rows - 1)  # one-hot, from row 1 on
        m.d.comb += first.eq(lowest(Cat(~kernel.row[r].bypass for r in range(1, config.rows))))

        candidates = Signal(config.operands)
        scanner = [Signal(config.scanner_bits, name=f"scanner_{o}") for o in operands]
        for o in operands:
            top = kernel.row[0].cell[o]
            cells = [kernel.row[r].cell[o] for r in range(1, config.rows)]
            placed = (top.mode == CellMode.SCAN) | (top.mode == CellMode.FOLLOW)
            scans = Cat(cell.mode == CellMode.SCAN for cell in cells)
            m.d.sync += [
                candidates[o].eq(placed & (top.step == 1) & (first & scans).any()),
                scanner[o].eq(one_of(zip(first, (cell.scanner for cell in cells), strict=True))),
            ]

        chosen = Signal(config.operands)
        number = Signal(config.scanner_bits)
        m.d.comb += [
            chosen.eq(lowest(candidates)),
            number.eq(one_of(zip(chosen, scanner, strict=True))),
        ]
        tables = Array(kernel.scanner[s] for s in range(config.scanners))
        for o in operands:
            top = kernel.row[0].cell[o]
            with m.If(chosen[o]):
                scans_it = top.mode == CellMode.SCAN
                m.d.sync += [
                    self.o.ranked.eq(scans_it),
                    self.o.masked.eq(scans_it | top.ones),
                    self.o.start.eq(kernel.operand[o].start),
                ]
        used = Cat(kernel.operand[o].used for o in operands)
        m.d.sync += [
            self.o.operand.eq(Mux(kernel.share.rows, chosen & used, 0)),
            self.o.table.eq(Array(table.table for table in tables)[number]),
            self.o.open.eq(Array(table.open for table in tables)[number]),
        ]
        return m
