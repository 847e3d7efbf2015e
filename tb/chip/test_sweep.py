"""`Sweep` against kernels that end and kernels that are cut off."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge

from loopnest_hw.accumulate.place import set_bits
from loopnest_hw.chip.sweep import Sweep
from loopnest_hw.config import make_config
from tb.harness import SIMULATORS, bench, run_bench

CONFIG = make_config("shrunk", slots=20)
SETS = 1 << set_bits(CONFIG)
KERNELS = 150


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_sweep(simulator: str) -> None:
    run_bench(Sweep(CONFIG), module=__name__, simulator=simulator)


@cocotb.test()
async def kernels(dut: Any) -> None:
    """All sets are swept after a reset, and from the second cycle after a kernel was cut off, when
    the PE's registers are reset; none after an end.

    A kernel that is cut off while a sweep goes on has not used the tables.
    """
    rng = bench.rng()
    dut.running.value = dut.ended.value = 0
    await bench.start(dut)
    await FallingEdge(dut.clk)
    left = set(range(int(dut.set.value), SETS))
    ran = False
    sweeps = 0

    async def cycle(*, running: bool, ended: bool = False) -> None:
        nonlocal left, ran, sweeps
        dut.running.value, dut.ended.value = int(running), int(ended)
        assert int(dut.clear.value) == bool(left)
        if left:
            left.remove(int(dut.set.value))
        if ran and not running and not left:
            left = set(range(SETS))
            sweeps += 1
        ran = running and not ended
        await FallingEdge(dut.clk)

    for _ in range(KERNELS):
        for _ in range(rng.randrange(1, 2 * SETS)):
            await cycle(running=False)
        ends = rng.random() < 0.5
        for _ in range(rng.randrange(1, 2 * SETS)):
            await cycle(running=True)
        if ends:
            await cycle(running=True, ended=True)
    assert KERNELS / 10 < sweeps < KERNELS * 0.6
