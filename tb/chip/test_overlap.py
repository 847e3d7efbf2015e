"""Bench of the overlap watch."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.overlap import OverlapWatch
from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.kernel import kernel_layout
from loopnest_sim.model.check import REGIONS, regions
from tb.chip.descriptors import regions as random_regions
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import encode

CONFIG = make_config("shrunk")
SEVERAL = make_config("shrunk", pes=3)
KERNELS = 150
READS = 12


def near(config: ChipConfig, rng: random.Random, kernel: dict[str, int]) -> int:
    """Return the address of a line at a region's edge, or of any line."""
    edges = [edge for region in regions(config, kernel).values() for edge in region]
    address = rng.choice([*edges, rng.getrandbits(32)]) + rng.choice((-64, -32, 0, 32))
    return address % (1 << 32) & ~31


@cocotb.test()
async def reads_at_the_edges(dut: Any) -> None:
    """The first line in a region is found, and no line next to one; descriptors' lines are found
    separately.
    """
    rng = bench.rng()
    config = CONFIG if bench.parameters["pes"] == 1 else SEVERAL
    layout = kernel_layout(config).members["result"]
    dut.read.value = dut.running.value = dut.clear.value = dut.descriptor.value = 0
    await bench.start(dut)
    seen: list[set[int | None]] = [set(), set()]
    for _ in range(KERNELS):
        kernel = random_regions(config, rng) | {"result.compressed": rng.randrange(2)}
        fields = dict.fromkeys(layout.members, 0)
        results = [path for path in kernel if path.startswith("result.")]
        fields |= {path.removeprefix("result."): kernel[path] for path in results}
        dut.result.value = encode(layout, fields)
        dut.counters.value = kernel["counters"]
        dut.clear.value = 1
        await RisingEdge(dut.clk)
        dut.clear.value = 0
        dut.running.value = 1
        await ClockCycles(dut.clk, 2)
        # after its run the regions still count
        running = rng.randrange(2)
        dut.running.value = running
        if not running:
            dut.result.value = dut.counters.value = 0
        expected: list[int | None] = [None, None]
        for _ in range(rng.randrange(READS)):
            address, valid = near(config, rng, kernel), rng.random() < 0.8
            descriptor = rng.randrange(2)
            dut.address.value, dut.read.value = address, int(valid)
            dut.descriptor.value = descriptor
            await RisingEdge(dut.clk)
            for name, (begin, end) in regions(config, kernel).items():
                if valid and expected[descriptor] is None and begin <= address < end:
                    expected[descriptor] = REGIONS.index(name)
        dut.read.value = 0
        await ClockCycles(dut.clk, 4)
        for port, wanted, kinds in zip((dut.found, dut.next_found), expected, seen, strict=True):
            found = int(port.value)
            assert (found >> 1 if found & 1 else None) == wanted
            kinds.add(wanted)
    assert seen == [{None, 0, 1, 2, 3}] * 2


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("config", [CONFIG, SEVERAL], ids=["one", "several"])
def test_overlap(simulator: str, config: ChipConfig) -> None:
    run_bench(
        OverlapWatch(config), module=__name__, simulator=simulator, parameters={"pes": config.pes}
    )
