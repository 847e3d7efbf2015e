"""`Gather` on a line pool of its own, against the golden gather and the rule of lines."""

import random
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import LINE_BYTES, ChipConfig, make_config
from loopnest_hw.stream.bank import StreamBank
from loopnest_hw.stream.gather import Gather, Known
from loopnest_hw.tokens import gather_reply, gather_request
from loopnest_sim.model.gather import LineStore, gather, lines_taken
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.memory import LineMemory
from tb.streams import Sink, Source

IMAGE_LINES = 512


def configuration(lanes: int, depth: int) -> ChipConfig:
    """Return a configuration with these lanes and queues; with shallow ones for bytes."""
    return make_config(
        dtype="int8" if depth < 8 else "bf16",
        streams=5,
        operands=3,
        multipliers=lanes,
        stream_depth=depth,
        pool_lines=32,
    )


def value_bytes(config: ChipConfig) -> list[int]:
    """Return the sizes that an operand's values may have."""
    return [size for size in (1, 2, 4) if size >= config.dtype.narrow_bytes]


def steps_of(
    kind: str,
    count: int,
    lanes: int,
    rng: random.Random,
    *,
    sizes: Sequence[int],
    far: bool = False,
) -> list[dict[str, Any]]:
    """Return `count` steps of items of one of these sizes, with one of several address patterns in
    the image, or anywhere beyond it.
    """
    size = rng.choice(sizes)
    span = IMAGE_LINES * LINE_BYTES // size
    at = rng.randrange(span)
    beyond = rng.getrandbits(18) << 14
    steps = []
    for n in range(count):
        valid = (1 << lanes) - 1
        if kind == "packed":  # values of a fiber
            items = [at + lane for lane in range(lanes)]
            at += lanes
        elif kind == "lines":  # a new line in every step
            items = [n * LINE_BYTES // size + rng.randrange(LINE_BYTES // size)] * lanes
        elif kind == "sparse":  # ascending, with holes in the lanes; empty steps
            valid = rng.getrandbits(lanes) * (rng.random() < 0.9)
            items = sorted(at + rng.randrange(40) for _ in range(lanes))
            at += rng.choice([0, 20, 1000])
        elif kind == "few":  # back and forth between a few lines
            valid = rng.getrandbits(lanes)
            items = [at + rng.randrange(3) * LINE_BYTES // size for _ in range(lanes)]
        else:  # anywhere
            items = [rng.randrange(span) for _ in range(lanes)]
        addresses = [item % span * size for item in items]
        if far:
            addresses = [address | beyond for address in addresses]
            if rng.random() < 0.5:  # nothing else of the line's number differs
                addresses[rng.randrange(lanes)] ^= 1 << rng.randrange(14, 32)
        steps.append({"valid": valid, "address": addresses})
    return steps


def golden(
    image: Any, steps: list[dict[str, Any]], lanes: int, kept: int
) -> tuple[list[list[int]], list[int]]:
    """Return the golden replies and the lines that are read."""
    valid = np.array([[s["valid"] >> n & 1 for n in range(lanes)] for s in steps], np.bool_)
    address = np.array([s["address"] for s in steps], np.uint32)
    items, _ = gather(image, valid, address % image.size)
    taken = lines_taken(address[valid])
    return items.tolist(), taken[LineStore(kept).not_kept(taken)].tolist()


async def run_steps(
    dut: Any,
    steps: list[dict[str, Any]],
    *,
    ring: tuple[int, int],
    source_stall: float = 0.0,
    sink_stall: float = 0.0,
    **memory_options: Any,
) -> list[int]:
    """Send steps, compare replies and lines with the golden ones; return the replies' cycles."""
    rng = bench.rng()
    lanes = bench.parameters["lanes"]
    config = configuration(lanes, bench.parameters["depth"])
    image = np.frombuffer(rng.randbytes(IMAGE_LINES * LINE_BYTES), np.uint8)
    source = Source(dut, "value__0__i", gather_request(lanes), rng, stall=source_stall)
    sink = Sink(dut, "value__0__o", gather_reply(lanes), rng, stall=sink_stall)
    memory = LineMemory(dut, config, image, rng, **memory_options)
    await bench.start(dut)
    dut.ring__0.value = ring[0] | ring[1] << config.pool_bits
    await ClockCycles(dut.clk, 1)
    cocotb.start_soon(source.send_all(steps))
    received = await sink.wait_for(len(steps), idle=2000)
    expected, lines = golden(image, steps, lanes, config.kept_lines)
    assert received == expected
    await ClockCycles(dut.clk, 300)
    assert len(sink.received) == len(steps)
    assert memory.lines == lines
    size = ring[1] - ring[0] + 1
    assert memory.slots == [ring[0] + n % size for n in range(len(lines))]
    assert not int(dut.error.value)
    return sink.cycles


@cocotb.test()
@cocotb.parametrize(
    kind=["packed", "lines", "sparse", "few", "anywhere"],
    timing=[(1, 0, 0.0), (4, 20, 0.0), (100, 60, 0.0), (1, 9, 0.4), (4, 0, 0.4)],
)
async def replies(dut: Any, kind: str, timing: tuple[int, int, float]) -> None:
    """Every kind of walk, at every timing, in a random ring."""
    rng = bench.rng()
    latency, spread, stall = timing
    base = rng.randrange(32)
    lanes, depth = bench.parameters["lanes"], bench.parameters["depth"]
    sizes = value_bytes(configuration(lanes, depth))
    count = 40 if latency == 100 else 120
    steps = steps_of(kind, count, lanes, rng, sizes=sizes, far=rng.random() < 0.5)
    await run_steps(
        dut,
        steps,
        ring=(base, rng.randrange(base, 32)),
        latency=latency,
        spread=spread,
        stall=stall,
        source_stall=stall,
        sink_stall=stall,
    )


@cocotb.test()
async def smallest_ring(dut: Any) -> None:
    """One line and two lines are enough."""
    steps = steps_of("anywhere", 30, bench.parameters["lanes"], bench.rng(), sizes=[2, 4])
    await run_steps(dut, steps, ring=(31, 31), latency=2, spread=3, sink_stall=0.3)


@cocotb.test()
@cocotb.parametrize(kind=["lines", "packed"])
async def rates(dut: Any, kind: str) -> None:
    """One step per cycle, even if each has a new line, unless the queues are too shallow."""
    if bench.parameters["depth"] < 8:
        return
    steps = steps_of(kind, 400, bench.parameters["lanes"], bench.rng(), sizes=[2, 4])
    cycles = await run_steps(dut, steps, ring=(0, 31), latency=4)
    rate = (len(cycles) - 1) / (cycles[-1] - cycles[0])
    dut._log.info("%s: %.3f steps per cycle, first reply in cycle %d", kind, rate, cycles[0])
    assert rate >= 0.95


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("lanes", "depth"), [(4, 64), (2, 1), (1, 8), (16, 4)])
def test_gather(simulator: str, lanes: int, depth: int) -> None:
    """Lanes and queues of all sizes."""
    if lanes == (16 if simulator == "icarus" else 1):
        pytest.skip("left to the other simulator")
    config = configuration(lanes, depth)
    bank = StreamBank(config, scanners=0, values=1, words=0, lines=32)
    run_bench(
        bank,
        module=__name__,
        simulator=simulator,
        parameters={"lanes": lanes, "depth": depth},
    )


def test_stream_law() -> None:
    """The stream law, for any requests, as long as the pool and the ring obey the contract."""
    for lanes, depth in ((2, 1), (4, 64)):
        prove_stream_law(
            Gather(configuration(lanes, depth), [Known(0)] * lanes),
            outputs=["o", "pool__request", "pool__take"],
            depth=2,
        )
