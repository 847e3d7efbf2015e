"""Tests the epilogue's arithmetic unit of either number format."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from cocotb.triggers import ClockCycles

from loopnest_hw.config import NumberFormat, make_config
from loopnest_hw.descriptor import Output
from loopnest_sim.model.arith import widen
from loopnest_sim.model.epilogue import finish
from tb.arith.pipe import run_pipe
from tb.harness import bench
from tb.result.items import setting

ROUNDS = 60
"""Settings of a bench."""

VALUES = 60
"""Values for each setting."""

Kernel = dict[str, int]
Triple = tuple[int, int, int]


async def check_unit(
    dut: Any,
    fmt: NumberFormat,
    latencies: dict[str, int],
    make_kernel: Callable[[random.Random], Kernel],
    make_value: Callable[[random.Random, Kernel], Triple],
) -> None:
    """Compare the outputs for random settings, and random values, biases and scales for each."""
    rng = bench.rng()
    config = make_config("single", fmt.value)
    await bench.start(dut)
    changed = 0
    for _ in range(bench.count(ROUNDS)):
        kernel = make_kernel(rng)
        kernel |= {"epilogue.enable": 1, "epilogue.relu": rng.randrange(2)}
        kernel |= {"result.output": rng.choice((Output.WIDE, Output.NARROW))}
        dut.settings.value = setting(config, "epilogue", kernel)
        dut.narrow.value = kernel["result.output"]
        await ClockCycles(dut.clk, 3)
        raw = np.array([make_value(rng, kernel) for _ in range(VALUES)], np.uint32).T
        value, bias, scale = (widen(words, fmt, wide=True) for words in raw)
        bits, zero, overflow = finish(value, bias, scale, kernel, fmt)
        columns = (x.view(np.uint32).tolist() for x in (value, bias, scale))
        rows = zip(*columns, strict=True)
        items = [dict(zip(("value", "bias", "scale"), row, strict=True)) for row in rows]
        stall = rng.choice((0, 0.3))
        results = await run_pipe(dut, items, latencies, stages=latencies["o"], stall=stall, rng=rng)
        for n, (item, result) in enumerate(zip(items, results, strict=True)):
            wanted = {"o": int(bits[n]), "overflow": int(overflow[n])}
            if zero[n] and result["o"] == 0:  # a zero is dropped, whatever its sign
                wanted["o"] = 0
            assert result == wanted, (kernel, item)
        changed += int((bits != value.view(np.uint32)).sum())
    assert changed > bench.count(ROUNDS) * VALUES / 4
