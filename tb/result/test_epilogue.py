"""Bench of the epilogue."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw import tokens
from loopnest_hw.config import EPILOGUE_READS, NumberFormat, make_config
from loopnest_hw.descriptor import Output
from loopnest_hw.result.epilogue import COORDINATE, FIBER, VALUE, Epilogue
from loopnest_sim.image import Image
from loopnest_sim.model.arith import widen
from loopnest_sim.model.blocks import Blocks
from loopnest_sim.model.epilogue import epilogue
from tb.harness import bench, run_bench, runs
from tb.result.gather_memory import GatherMemory
from tb.result.items import NO_BLOCK, defined, noisy, random_blocks, setting, silenced, to_items
from tb.streams import Sink, Source

BIASES, SCALES, MEMORY = 0x100, 0x1004, 0x2000
SIZE = 900
RUNS = 9

INT8_WORDS = (0, 1, 2, 3, 127, 128, 129, 255, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
BF16_WORDS = (
    *(0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x80800000),
    *(0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x3F800000, 0xBF800000, 0x7FC00000, 0xFFC12345),
    *(0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x7F7F8000),
)


def random_word(rng: random.Random, fmt: NumberFormat) -> int:
    """Return a wide value: random bits, a limit, or one of medium magnitude."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(INT8_WORDS if fmt is NumberFormat.INT8 else BF16_WORDS)
    if kind == 1:
        return rng.getrandbits(32)
    if fmt is NumberFormat.INT8:
        return rng.randrange(-1000, 1000) & 0xFFFFFFFF
    return int(np.float32(rng.uniform(-4, 4)).view(np.uint32))


def random_kernel(rng: random.Random, fmt: NumberFormat) -> dict[str, int]:
    """Return random settings, including mild ones, so that results are not only zeros and
    bounds.
    """
    integer = fmt is NumberFormat.INT8
    mild = rng.random() < 0.6
    lowest, highest = (1 << 31, (1 << 31) - 1) if integer else (0xFF800000, 0x7F800000)
    kernel = {
        "epilogue.enable": 1,
        "epilogue.relu": rng.randrange(2),
        "epilogue.bias_mode": rng.choice((VALUE, FIBER, COORDINATE)),
        "epilogue.scale_mode": rng.choice((VALUE, FIBER, COORDINATE)),
        "epilogue.shift": rng.choice((0, 1, 5, 8, 31, 32, 62, 63)) if integer else 0,
        "epilogue.bias_value": random_word(rng, fmt),
        "epilogue.scale_value": random_word(rng, fmt),
        "epilogue.bias": BIASES,
        "epilogue.scale": SCALES,
        "epilogue.low": lowest if mild else random_word(rng, fmt),
        "epilogue.high": highest if mild else random_word(rng, fmt),
        "epilogue.threshold": rng.choice((0, random_word(rng, fmt))),
        "result.output": rng.choice((Output.WIDE, Output.NARROW)),
    }
    if integer and mild:
        # A result of a few bits, halves between them.
        kernel["epilogue.shift"] = rng.choice((0, 1, 3))
        kernel["epilogue.scale_value"] = rng.choice((1, 2, 3, 5)) if rng.random() < 0.8 else 1 << 31
    return kernel


def random_values(rng: random.Random, blocks: Blocks, fmt: NumberFormat) -> None:
    """Fill the blocks with wide values in the adders' output form."""
    raw = np.array(
        [[random_word(rng, fmt) for _ in row] for row in blocks.value], np.uint32
    ).reshape(-1, 16)
    canonical = widen(raw, fmt, wide=True).view(np.uint32)
    blocks.value[:] = np.where(blocks.lanes, canonical, 0)


@cocotb.test()
async def equals_the_model(dut: Any) -> None:
    p = bench.parameters
    config = make_config(p["preset"], p["dtype"])
    rng = bench.rng()
    source = Source(dut, "i", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    sink = Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    memory = GatherMemory(dut, bench.rng(), stall=p["stall"], latency=rng.choice((0, 30)))
    await bench.start(dut)
    values = 0
    for _ in range(bench.count(RUNS)):
        kernel = random_kernel(rng, config.dtype)
        dut.rst.value = 1
        dut.settings.value = setting(config, "epilogue", kernel)
        dut.narrow.value = kernel["result.output"]
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 3)
        memory.image = image = Image()
        words = [random_word(rng, config.dtype) for _ in range(MEMORY // 4)]
        image.write(0, np.array(words, np.uint32))
        blocks = random_blocks(rng, [rng.randrange(SIZE) for _ in range(15)], size=SIZE, most=4)
        random_values(rng, blocks, config.dtype)
        expected, overflow = epilogue(blocks, kernel, config.dtype, image)
        items, wanted = to_items(blocks), to_items(expected)
        if rng.random() < 0.5:
            items, wanted = silenced(items), silenced(wanted)
        before, asked = len(sink.received), memory.requests
        await source.send_all(noisy(items, rng))
        await sink.wait_for(before + len(wanted))
        await ClockCycles(dut.clk, 100)
        received = defined(sink.received[before:])
        for got, want in zip(received, wanted, strict=True):
            assert got == want, kernel
        assert int(dut.overflow.value) == overflow
        modes = kernel["epilogue.bias_mode"], kernel["epilogue.scale_mode"]
        lanes = int(blocks.lanes.sum())
        groups = int(blocks.lanes.reshape(-1, EPILOGUE_READS).any(axis=1).sum())
        assert memory.requests - asked == (groups if any(modes) else 0)
        values += lanes
    assert values > bench.count(1000)


@cocotb.test()
async def rates(dut: Any) -> None:
    """Two lanes per cycle if enabled, with factors in memory or not; else one block per cycle."""
    config = make_config(bench.parameters["preset"], bench.parameters["dtype"])
    source = Source(dut, "i", tokens.RESULT_BLOCK, bench.rng())
    sink = Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng())
    GatherMemory(dut, bench.rng(), stall=0, latency=20)
    await bench.start(dut)
    for changes, cycles_each in (
        ({"epilogue.enable": 1}, 8),
        ({"epilogue.enable": 1, "epilogue.bias_mode": FIBER}, 8),
        ({}, 1),
    ):
        dut.rst.value = 1
        # A high bound of 0 is not what the values are compared with: they are below it.
        kernel = {"epilogue.scale_value": 1 if config.dtype is NumberFormat.INT8 else 0x3F800000}
        kernel |= {"epilogue.high": 0x7F000000} | changes
        dut.settings.value = setting(config, "epilogue", kernel)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        item = {"mask": 0xFFFF, "value": [0x3F800000] * 16, "coordinate": 1, "fiber": 1}
        item |= {"second": dict(NO_BLOCK), "last": 0, "final": 0}
        if not changes:
            item |= {"mask": 0x5555, "second": {"coordinate": 7, "mask": 0xAAAA}}
        before = len(sink.received)
        await source.send_all([item] * 30)
        await sink.wait_for(before + 30)
        assert changes or sink.received[before:] == [item] * 30
        cycles = sink.cycles[-1] - sink.cycles[before]
        assert cycles == 29 * cycles_each, (changes, cycles)


CASES = [("int8", "single", 0.0), ("bf16", "single", 0.0), ("int8", "shrunk", 0.3)]
CASES += [("bf16", "shrunk", 0.3)]


@pytest.mark.parametrize(
    ("simulator", "dtype", "preset", "stall"), runs(CASES, icarus=[CASES[0], CASES[-1]])
)
def test_epilogue(simulator: str, dtype: str, preset: str, stall: float) -> None:
    run_bench(
        Epilogue(make_config(preset, dtype)),
        module=__name__,
        simulator=simulator,
        parameters={"dtype": dtype, "preset": preset, "stall": stall},
        testcase="equals_the_model",
    )


@pytest.mark.parametrize("dtype", ["int8", "bf16"])
def test_rates(dtype: str) -> None:
    run_bench(
        Epilogue(make_config("single", dtype)),
        module=__name__,
        simulator="verilator",
        parameters={"dtype": dtype, "preset": "single"},
        testcase="rates",
    )
