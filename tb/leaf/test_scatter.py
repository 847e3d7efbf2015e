"""The scatter leaf against `scatter`."""

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Assume, Module, Signal
from cocotb.triggers import ClockCycles

from loopnest_hw.config import PAIR, make_config
from loopnest_hw.leaf.scatter import Scatter
from loopnest_hw.tokens import joined
from loopnest_sim.model.scatter import scatter
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source

CONFIG = make_config("tiny")
LAYOUT = joined(CONFIG, PAIR)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_scatter(simulator: str) -> None:
    run_bench(Scatter(CONFIG), module=__name__, simulator=simulator)


def test_stream_law() -> None:
    def constant(m: Module, component: Scatter) -> None:
        before = Signal()
        running = Signal()
        m.d.sync += [before.eq(component.enable), running.eq(1)]
        m.d.comb += Assume(~running | (before == component.enable))

    config = make_config("tiny", operands=2)
    prove_stream_law(
        Scatter(config), outputs=["o"], inputs_assumed=["i"], properties=constant, depth=2
    )


def random_item(rng: random.Random, count: int) -> dict[str, Any]:
    """Return an item in the joiner's form; a block has at least one lane."""

    def block() -> dict[str, Any]:
        return {
            "coordinate": rng.getrandbits(16),
            "lanes": rng.choice([1 << rng.randrange(16), rng.randrange(1, 1 << 16), 0xFFFF]),
            "mask": [rng.getrandbits(16) for _ in range(CONFIG.operands)],
            "rank": [rng.getrandbits(20) for _ in range(CONFIG.operands)],
        }

    return {
        "block": [block() for _ in range(PAIR)],
        "count": count,
        "child": [rng.getrandbits(32) for _ in range(CONFIG.operands)],
        "last": count < PAIR or rng.random() < 0.5,
    }


def used(item: dict[str, Any]) -> dict[str, Any]:
    """Return the item without its unused blocks."""
    return item | {"block": item["block"][: item["count"]], "last": bool(item["last"])}


@cocotb.test()
@cocotb.parametrize(enable=[0, 1], stall=[0.0, 0.4])
async def random_items(dut: Any, enable: int, stall: float) -> None:
    await bench.start(dut)
    dut.enable.value = enable
    rng = bench.rng()
    source = Source(dut, "i", LAYOUT, bench.rng(), stall)
    sink = Sink(dut, "o", LAYOUT, bench.rng(), stall)
    items = [random_item(rng, rng.randrange(PAIR + 1)) for _ in range(80)]
    expected: list[dict[str, Any]] = []
    for item in items:
        blocks = item["block"][: item["count"]]
        lanes = scatter([block["lanes"] for block in blocks])
        if not enable or not lanes:
            expected.append(used(item))
            continue
        for n, (which, lane) in enumerate(lanes):
            last = item["last"] and n == len(lanes) - 1
            block = blocks[which] | {"lanes": lane}
            expected.append(item | {"block": [block], "count": 1, "last": last})
    sender = cocotb.start_soon(source.send_all(items))
    await sink.wait_for(len(expected))
    await ClockCycles(dut.clk, 20)
    assert [used(item) for item in sink.received] == expected
    await sender
    assert len(expected) >= 80
    if not stall:
        assert sink.cycles[-1] - sink.cycles[0] == len(expected) - 1, "not one item per cycle"
