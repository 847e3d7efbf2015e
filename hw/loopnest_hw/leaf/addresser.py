"""The addresser: assigns a step's lanes, and computes the addresses of their values."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arith.delay import Flow
from ..config import ADDRESS_BITS, LANES, ChipConfig
from ..descriptor import CellMode, LeafMode
from ..kernel import kernel_layout
from ..register import payload_register
from ..tokens import gather_request
from ..unary import at_least, below
from .layouts import formed, step


def addressed(config: ChipConfig) -> data.StructLayout:
    """A step, and the request to each operand's value stream."""
    return data.StructLayout(
        {
            "step": step(config),
            "gather": data.ArrayLayout(gather_request(config.multipliers), config.operands),
        }
    )


class Addresser(wiring.Component):
    """Orders a step's lanes, lowest lane of the first block first, and addresses their values.

    One step per cycle, three cycles of latency. The kernel is constant from two cycles before the
    first step on. The address of operand o's value is
    ``values + bytes * (base + number * step)``, where number is the lane (FOLLOW), its rank within
    its block (SCAN) or 0 (HOLD). Values of absent operands are not requested.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(formed(config))),
                "kernel": In(kernel_layout(config)),
                "o": Out(stream.Signature(addressed(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        lanes = range(config.multipliers)
        operands = range(config.operands)
        row = self.kernel.row[config.rows - 1]
        axpy = self.kernel.leaf_mode == LeafMode.AXPY
        advance = Signal()
        flow = Flow(m, self.i.valid, 3, advance=advance)
        m.d.comb += [
            self.o.valid.eq(flow.valid[-1]),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
        ]

        # Order: which lane of which block each lane of the step takes.
        item = self.i.payload
        before = at_least(m, "before", Cat(item.take), config.multipliers)
        lined = Signal(formed(config), reset_less=True)
        chosen = [Signal(LANES, name=f"chosen_{n}", reset_less=True) for n in lanes]
        second = Signal(config.multipliers, reset_less=True)
        with m.If(flow.load[0]):
            m.d.sync += lined.eq(item)
            for slot in lanes:
                picks = [
                    taken & before[n][slot] & ~before[n][slot + 1]
                    for n, taken in enumerate(Cat(item.take))
                ]
                m.d.sync += [
                    chosen[slot].eq(
                        Cat(picks[lane] | picks[LANES + lane] for lane in range(LANES))
                    ),
                    second[slot].eq(Cat(picks[LANES:]).any()),
                ]

        # Number: each lane's rank or coordinate within its block, the address of its block's base,
        # and the rest of the step.
        numbered = Signal(step(config), reset_less=True)
        number = [
            [Signal(4, name=f"number_{n}_{o}", reset_less=True) for o in operands] for n in lanes
        ]
        base = [
            [Signal(ADDRESS_BITS, name=f"base_{n}_{o}", reset_less=True) for o in operands]
            for n in lanes
        ]
        with m.If(flow.load[1]):
            m.d.sync += [
                numbered.fiber.eq(lined.fiber.fiber),
                numbered.end.eq(lined.fiber.end & lined.last),
                numbered.final.eq(lined.fiber.final & lined.last),
                numbered.last.eq(lined.last),
            ]
        for n in lanes:
            block = Signal(lined.block[0].shape(), name=f"block_{n}")
            lane_index = Signal(range(LANES), name=f"lane_index_{n}")
            lower = Signal(LANES, name=f"lower_{n}")
            m.d.comb += [
                block.eq(Mux(second[n], lined.block[1].as_value(), lined.block[0].as_value())),
                lower.eq(below(chosen[n])),
                lane_index.eq(
                    Cat(
                        Cat(chosen[n][lane] for lane in range(LANES) if lane >> b & 1).any()
                        for b in range(4)
                    )
                ),
            ]
            with m.If(flow.load[1]):
                m.d.sync += [
                    numbered.valid[n].eq(chosen[n].any()),
                    numbered.index[n].eq(block.index ^ Mux(axpy, lane_index, 0)),
                    numbered.place[n].eq(block.place),
                    numbered.first[n].eq((block.first & chosen[n]).any()),
                ]
            for o in operands:
                cell = row.cell[o]
                earlier = Signal(LANES, name=f"earlier_{n}_{o}")
                own = Signal(4, name=f"own_{n}_{o}")
                present = Signal(name=f"present_{n}_{o}")
                joins = (cell.mode == CellMode.SCAN) | cell.ones
                m.d.comb += [
                    earlier.eq(block.mask[o] & lower),
                    present.eq(
                        self.kernel.operand[o].used
                        & lined.fiber.present[o]
                        & (~joins | (block.mask[o] & chosen[n]).any())
                    ),
                ]
                with m.Switch(cell.mode):
                    with m.Case(CellMode.SCAN):
                        m.d.comb += own.eq(sum(earlier))
                    with m.Case(CellMode.FOLLOW):
                        m.d.comb += own.eq(lane_index)
                with m.If(flow.load[1]):
                    m.d.sync += [
                        number[n][o].eq(own),
                        base[n][o].eq(
                            self.kernel.operand[o].values + (block.base[o] << self._shift(o))
                        ),
                        numbered.present[n][o].eq(present),
                    ]

        # Address: each two bits of the number choose a multiple of the step.
        out = payload_register(m, self.o)
        with m.If(flow.load[2]):
            m.d.sync += out.step.eq(numbered)
        for o in operands:
            once = Signal(ADDRESS_BITS, name=f"once_{o}", reset_less=True)
            thrice = Signal(ADDRESS_BITS, name=f"thrice_{o}", reset_less=True)
            step_bytes = row.cell[o].step << self._shift(o)
            # Of steps that follow each other, the first one is enough.
            with m.If(flow.load[0] & ~flow.valid[1]):
                m.d.sync += [once.eq(step_bytes), thrice.eq(step_bytes * 3)]
            multiples = Array([0, once, once << 1, thrice])
            for n in lanes:
                low, high = number[n][o][:2], number[n][o][2:]
                with m.If(flow.load[2]):
                    m.d.sync += [
                        out.gather[o].valid[n].eq(numbered.valid[n] & numbered.present[n][o]),
                        out.gather[o]
                        .address[n]
                        .eq(base[n][o] + multiples[low] + (multiples[high] << 2)),
                    ]
        return m

    def _shift(self, operand: int) -> Value:
        """Return log2 of the bytes of an operand's value."""
        narrow = self._config.dtype.narrow_bytes.bit_length() - 1
        return Mux(self.kernel.operand[operand].wide, 2, narrow)
