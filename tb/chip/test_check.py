"""`DescriptorCheck` against its golden function."""

from random import Random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.chip.check import DescriptorCheck
from loopnest_hw.config import COORDINATE_BITS, ChipConfig, make_config
from loopnest_hw.descriptor import PREFETCHES, CellMode, kernel_fields, pack
from loopnest_sim.model.check import contradictions, regions
from tb.chip.descriptors import register, sound
from tb.harness import SIMULATORS, bench, run_bench

CONFIG = make_config("shrunk")
SEVERAL = make_config("shrunk", pes=2)
KERNELS = 600
LATENCY = 2


@cocotb.test()
async def random_kernels(dut: Any) -> None:
    """Valid descriptors, and some with up to two corrupted fields, one per cycle."""
    rng = bench.rng()
    config = make_config("shrunk", pes=bench.parameters["pes"])
    fields = list(kernel_fields(config))
    judged = [f for f in fields if f.bits <= 3 or f.path.endswith(("size", "base", "last", "_end"))]
    await bench.start(dut)
    expected: list[bool] = []
    reasons: set[str] = set()
    for number in range(KERNELS):
        kernel = sound(config, rng)
        assert not list(contradictions(config, kernel))
        if config.pes > 1 and rng.random() < 0.5:
            # the ways in which the rows can be shared, and those in which they cannot
            kernel["share.rows"] = 1
            kernel["row.0.result_mode"] = rng.randrange(3)
            kernel["row.0.result_step"] = rng.choice((0, 16))
        if config.pes > 1 and rng.random() < 0.3:
            # coordinates that go in turns: where a cell scans, and of about as many as there are
            kernel |= {"share.rows": rng.choice((0, 1, 1, 1)), "share.head": rng.randrange(5)}
            if rng.random() < 0.7:
                kernel |= {f"row.0.cell.{o}.mode": CellMode.HOLD for o in range(config.operands)}
            kernel["row.0.size"] = rng.choice(
                (1 << COORDINATE_BITS, rng.randrange(160), 32, 64, 65)
            )
        if config.cached and rng.random() < 0.3:
            # lines to read ahead at an edge of a region, or of the memory
            edges = [edge for region in regions(config, kernel).values() for edge in region]
            edge, n = rng.choice((*edges, 1 << 32)), rng.randrange(PREFETCHES)
            lines = rng.randrange(4)
            begin = edge - 32 * rng.choice((lines - 1, lines, lines + 1, 0)) + rng.randrange(-1, 32)
            kernel |= {
                f"prefetch.{n}.address": begin % (1 << 32),
                f"prefetch.{n}.lines": lines,
            }
        for _ in range(number % 3):
            field = rng.choice(rng.choice((fields, judged)))
            kernel[field.path] = rng.getrandbits(field.bits)
        if number % 7 == 0:  # at the end of memory, or behind it
            kernel["counters"] = (1 << 32) - 32 * rng.randrange(1, 12)
        wrong = list(contradictions(config, kernel))
        reasons |= {reason.split("=")[0].split(":")[0] for reason in wrong}
        dut.kernel.value = register(config, kernel)
        expected.append(bool(wrong))
        await RisingEdge(dut.clk)
        if number >= LATENCY:
            found = bool(int(dut.contradiction.value))
            assert found == expected[number - LATENCY], number - LATENCY
    assert KERNELS // 10 < sum(expected) < KERNELS
    assert len(reasons) > 20


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("config", [CONFIG, SEVERAL], ids=["one", "several"])
def test_check(simulator: str, config: ChipConfig) -> None:
    """Both simulators."""
    run_bench(
        DescriptorCheck(config),
        module=__name__,
        simulator=simulator,
        parameters={"pes": config.pes},
    )


def test_messages() -> None:
    """The golden function's messages name the field and its value."""
    words = dict.fromkeys((f.path for f in kernel_fields(CONFIG)), 0)
    assert next(contradictions(CONFIG, words)) == "magic=0x0000: expected 0x4e50"
    kernel = sound(CONFIG, Random(1))
    kernel |= {"row.1.bypass": 0, "row.1.cell.0.mode": CellMode.SCAN}
    kernel |= {"row.1.cell.0.ones": 0, "row.1.cell.0.scanner": CONFIG.scanners}
    found = list(contradictions(CONFIG, kernel))
    assert any("row.1.cell.0.scanner=3: expected 0 to 2" in reason for reason in found)
    assert pack(CONFIG, kernel).size
