"""The all-ones fiber: every size around a block's edge, and empty requests."""

from typing import Any

import cocotb
import pytest

from loopnest_hw.config import LANES
from loopnest_hw.format import BLOCK_MASK_BITS
from loopnest_hw.row.ones import Ones
from loopnest_hw.tokens import FIBER_BLOCKS, FIBER_REQUEST
from loopnest_sim.model.scanner import fiber_items
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_ones(simulator: str) -> None:
    run_bench(Ones(), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(size=[0, 1, 15, 16, 17, 32, 33, 48, 63, 250, 20011], stall=[0.0, 0.4])
async def sizes(dut: Any, size: int, stall: float) -> None:
    await bench.start(dut)
    dut.size.value = size
    source = Source(dut, "i", FIBER_REQUEST, bench.rng(), stall)
    sink = Sink(dut, "o", FIBER_BLOCKS, bench.rng(), stall)
    empties = [False, True, False, False]
    sender = cocotb.start_soon(source.send_all({"empty": e} for e in empties))
    pairs = max(1, (size + 31) // 32)
    expected = sum(1 if e else pairs for e in empties)
    items = await sink.wait_for(expected)
    await sender
    masks = [(1 << min(LANES, size - first)) - 1 for first in range(0, size, LANES)]
    words = [block << BLOCK_MASK_BITS | mask for block, mask in enumerate(masks)]
    wanted = [item for empty in empties for item in fiber_items([] if empty else words, 0)[0]]
    for got, want in zip(items, wanted, strict=True):
        # nothing is stored, so nothing has a rank
        count = want["count"]
        assert got["word"][:count] == want["word"][:count]
        assert got | {"word": 0} == want | {"word": 0, "rank": [0, 0]}
