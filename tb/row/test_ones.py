"""The all-ones fiber: every size around a block's edge, and empty requests."""

from typing import Any

import cocotb
import pytest

from loopnest_hw.row.ones import Ones
from loopnest_hw.tokens import FIBER_BLOCKS, FIBER_REQUEST
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_ones(simulator: str) -> None:
    run_bench(Ones(), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(size=[0, 1, 15, 16, 17, 32, 33, 48, 63, 250], stall=[0.0, 0.4])
async def sizes(dut: Any, size: int, stall: float) -> None:
    await bench.start(dut)
    dut.size.value = size
    source = Source(dut, "i", FIBER_REQUEST, bench.rng(), stall)
    sink = Sink(dut, "o", FIBER_BLOCKS, bench.rng(), stall)
    empties = [False, True, False, False]
    sender = cocotb.start_soon(source.send_all({"empty": e} for e in empties))
    pairs = max(1, (size + 31) // 32)
    expected = sum(1 if e else pairs for e in empties)
    items = iter(await sink.wait_for(expected))
    await sender
    for empty in empties:
        lanes: list[int] = []
        last = False
        while not last:
            item = next(items)
            last = bool(item["last"])
            for word in item["word"][: item["count"]]:
                lanes += [16 * word["coordinate"] + b for b in range(16) if word["mask"] >> b & 1]
        assert lanes == ([] if empty else list(range(size)))
