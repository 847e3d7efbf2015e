"""The addresser against `address`."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import PAIR, make_config
from loopnest_hw.descriptor import CellMode, LeafMode
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.leaf.addresser import Addresser, addressed
from loopnest_hw.leaf.layouts import formed
from loopnest_sim.model.address import AddressedLane, PlacedBlock, Values, address
from loopnest_sim.model.expand import Cell
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, encode

CONFIG = make_config("tiny")
OPERANDS = range(CONFIG.operands)
LATENCY = 3


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_addresser(simulator: str) -> None:
    run_bench(Addresser(CONFIG), module=__name__, simulator=simulator)


def kernel_bits(mode: LeafMode, cells: list[Cell], values: list[Values]) -> int:
    """Return the settings that the addresser reads."""
    row = {"cell": [{"mode": c.mode.value, "ones": c.ones, "step": c.step} for c in cells]}
    operands = [{"used": v.used, "wide": v.size == 4, "values": v.address} for v in values]
    rows = [{} for _ in range(CONFIG.rows - 1)]
    kernel = {"leaf_mode": mode.value, "row": [*rows, row], "operand": operands}
    return encode(kernel_layout(CONFIG), kernel)


def random_block(rng: random.Random) -> PlacedBlock:
    masks = tuple(rng.choice([0xFFFF, rng.getrandbits(16)]) for _ in OPERANDS)
    base = tuple(rng.getrandbits(32) for _ in OPERANDS)
    return PlacedBlock(masks, base, rng.getrandbits(7), rng.getrandbits(16), rng.randrange(16))


def random_takes(rng: random.Random) -> list[int]:
    """Return up to M lanes of two blocks."""
    lanes = rng.sample(range(16 * PAIR), rng.randrange(CONFIG.multipliers + 1))
    return [sum(1 << lane % 16 for lane in lanes if lane // 16 == n) for n in range(PAIR)]


def seen(item: dict[str, Any]) -> list[AddressedLane]:
    """Return the lanes of an output item; valid ones come first."""
    step, gather = item["step"], item["gather"]
    count = step["valid"].bit_count()
    assert step["valid"] == (1 << count) - 1
    lanes = []
    for m in range(count):
        asked = tuple(
            gather[o]["address"][m] if gather[o]["valid"] >> m & 1 else None for o in OPERANDS
        )
        assert step["present"][m] == sum(1 << o for o in OPERANDS if asked[o] is not None)
        first = bool(step["first"] >> m & 1)
        lanes.append(AddressedLane(step["index"][m], step["place"][m], first, asked))
    assert not any(gather[o]["valid"] >> count for o in OPERANDS)
    return lanes


@cocotb.test()
@cocotb.parametrize(mode=[0, 1, 2], trial=[0, 1, 2], stall=[0.0, 0.4])
async def random_steps(dut: Any, mode: int, trial: int, stall: float) -> None:
    await bench.start(dut)
    rng = bench.rng()
    leaf_mode = LeafMode(mode)
    modes = rng.sample(list(CellMode), len(CellMode))
    cells = [Cell(m, False, rng.choice([1, 1, 16, rng.getrandbits(32)])) for m in modes]
    if rng.random() < 0.5:
        o = rng.choice([o for o in OPERANDS if cells[o].mode != CellMode.SCAN])
        cells[o] = Cell(cells[o].mode, True, cells[o].step)
    values = [
        Values(rng.random() < 0.8, rng.getrandbits(27) << 5, rng.choice([2, 4])) for _ in OPERANDS
    ]
    dut.kernel.value = kernel_bits(leaf_mode, cells, values)
    source = Source(dut, "i", formed(CONFIG), bench.rng(), stall)
    sink = Sink(dut, "o", addressed(CONFIG), bench.rng(), stall)
    items: list[dict[str, Any]] = []
    expected: list[list[AddressedLane]] = []
    for n in range(100):
        blocks = [random_block(rng) for _ in range(PAIR)]
        take = random_takes(rng)
        present = [rng.random() < 0.8 for _ in OPERANDS]
        fiber = {
            "present": sum(bit << o for o, bit in enumerate(present)),
            "fiber": n,
            "end": rng.getrandbits(1),
            "final": rng.getrandbits(1),
        }
        words = [
            {
                "mask": list(b.mask),
                "base": list(b.base),
                "place": b.place,
                "first": b.first,
                "index": b.index,
            }
            for b in blocks
        ]
        items.append({"block": words, "take": take, "fiber": fiber, "last": rng.getrandbits(1)})
        one_key = leaf_mode != LeafMode.AXPY
        expected.append(address(blocks, take, present, cells, values, one_key=one_key))
    sender = cocotb.start_soon(source.send_all(items))
    await sink.wait_for(len(items))
    await sender
    await ClockCycles(dut.clk, 20)
    assert len(sink.received) == len(items)
    for got, item, lanes in zip(sink.received, items, expected, strict=True):
        assert seen(got) == lanes
        step, fiber, last = got["step"], item["fiber"], item["last"]
        assert (step["fiber"], step["last"]) == (fiber["fiber"], last)
        assert (step["end"], step["final"]) == (fiber["end"] & last, fiber["final"] & last)
    if not stall:
        assert sink.cycles[-1] - sink.cycles[0] == len(items) - 1, "not one step per cycle"
