"""Bench of the whole result path."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw import tokens
from loopnest_hw.config import make_config
from loopnest_hw.descriptor import Output
from loopnest_hw.result.epilogue import COORDINATE, FIBER
from loopnest_hw.result.output import ResultPath
from loopnest_hw.tokens import StageState
from loopnest_sim.image import ADDRESS_SPACE, Image
from loopnest_sim.model.epilogue import epilogue
from loopnest_sim.model.fill import fill
from loopnest_sim.model.write import write
from tb.harness import SIMULATORS, bench, run_bench
from tb.result.gather_memory import GatherMemory
from tb.result.items import noisy, paired, random_blocks, setting, silenced, to_items
from tb.result.test_epilogue import random_kernel, random_values
from tb.result.test_writer import BLOCKS, MEMORY, TABLE, VALUES, Memory, new_image
from tb.streams import Sink, Source

SIZE = 75
FIBERS = 30
RUNS = 8


@cocotb.test()
async def equals_the_models(dut: Any) -> None:
    """Every combination of epilogue, format, `full` and region sizes."""
    p = bench.parameters
    config = make_config("single", p["dtype"])
    rng = bench.rng()
    source = Source(dut, "i", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    memory = Memory(Image())
    Sink(
        dut,
        "o",
        tokens.LINE_WRITE,
        bench.rng(),
        stall=p["stall"],
        check=lambda item: memory.write(item),
    )
    gathers = GatherMemory(dut, bench.rng(), stall=p["stall"], latency=10)
    await bench.start(dut)
    for run in range(RUNS):
        compressed, full, enabled = run & 1, run >> 1 & 1, run >> 2 & 1
        step = 1 if compressed else SIZE
        kernel = random_kernel(rng, config.dtype) | {
            "epilogue.enable": enabled,
            "epilogue.bias": 0x100,
            "epilogue.scale": 0x104,
            "result.compressed": compressed,
            "result.full": full,
            "result.size": SIZE,
            "result.fill": rng.choice((0, rng.getrandbits(32))) if full else 0,
            "result.table": TABLE,
            "result.table_end": TABLE + rng.choice((0x1000, 0x100)),
            "result.blocks": BLOCKS,
            "result.blocks_end": BLOCKS + rng.choice((0x3000, 0x180)),
            "result.values": VALUES,
            "result.values_end": VALUES + rng.choice((0xA000, 0x180)),
        }
        pairs = compressed and not full and not enabled
        # in pairs, other chunks may be dropped than the model's: so everything fits
        if pairs:
            kernel |= {"result.blocks_end": BLOCKS + 0x3000, "result.values_end": VALUES + 0xA000}
        if not enabled:
            kernel["result.output"] = Output.WIDE
        if full:  # both from memory at once
            modes = rng.choices((FIBER, COORDINATE), k=2)
            kernel |= {"epilogue.bias_mode": modes[0], "epilogue.scale_mode": modes[1]}
        order = rng.sample(range(FIBERS), bench.count(FIBERS))
        blocks = random_blocks(rng, [step * n for n in order], size=SIZE, most=5)
        random_values(rng, blocks, config.dtype)

        image = new_image(rng)
        gathers.image = image
        memory = Memory(image.copy())
        expected = image.copy()
        out = fill(blocks, SIZE, kernel["result.fill"]) if full else blocks
        out, overflow = epilogue(out, kernel, config.dtype, image)
        written = write(out, kernel, config.dtype, expected)

        dut.rst.value = 1
        dut.result.value = setting(config, "result", kernel)
        silent = rng.random() < 0.5
        dut.silent.value = silent
        # anywhere in the address space, of which the image has the first bytes
        gathers.offsets = tuple(rng.randrange(0, ADDRESS_SPACE, 4) for _ in range(2))
        moved = {
            name: (kernel[name] + offset) % ADDRESS_SPACE
            for name, offset in zip(
                ("epilogue.bias", "epilogue.scale"), gathers.offsets, strict=True
            )
        }
        dut.epilogue.value = setting(config, "epilogue", kernel | moved)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 3)
        assert int(dut.state.value) == StageState.IDLE.value
        states, lines = set(), 0
        items = paired(to_items(blocks), rng) if pairs else to_items(blocks)
        if silent:
            items = silenced(items)
            items[-1]["last"] = 1  # it would end a fiber
        sending = cocotb.start_soon(source.send_all(noisy(items, rng)))
        for _ in range(40_000):
            await RisingEdge(dut.clk)
            states.add(int(dut.state.value))
            lines += int(dut.line_written.value)
            if int(dut.done.value):
                break
        else:
            raise AssertionError("no done")
        await sending
        await ClockCycles(dut.clk, 20)
        assert int(dut.state.value) == StageState.IDLE.value
        assert StageState.BUSY.value in states
        assert lines == memory.lines == written.lines
        wrong = np.flatnonzero(memory.image.read(0, MEMORY) != expected.read(0, MEMORY))
        assert len(wrong) == 0, f"{len(wrong)} wrong bytes, the first at {wrong[0]:#x}, {kernel}"
        assert int(dut.overflow.value) == overflow
        error = int(dut.full.value)
        full_regions = [written.blocks_full, written.values_full, written.table_full]
        assert error & 1 == any(full_regions)
        assert not error & 1 or error >> 1 == full_regions.index(True)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("dtype", "stall"), [("int8", 0.0), ("bf16", 0.3)])
def test_result_path(simulator: str, dtype: str, stall: float) -> None:
    run_bench(
        ResultPath(make_config("single", dtype)),
        module=__name__,
        simulator=simulator,
        parameters={"dtype": dtype, "stall": stall},
    )
