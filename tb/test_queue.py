"""The queue: order, capacity and rate, in registers and in memory."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ReadOnly, RisingEdge

from loopnest_hw.queue import SHALLOW, Queue, SkidBuffer
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source

COUNT = 300


DEPTHS = [1, 2, SHALLOW, SHALLOW + 1]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("depth", [*DEPTHS, 64])
def test_queue(simulator: str, depth: int) -> None:
    pace = 2 if depth == 1 else 1
    run_bench(
        Queue(16, depth),
        module=__name__,
        simulator=simulator,
        parameters={"pace": pace, "latency": 1},
    )


@pytest.mark.parametrize("depth", DEPTHS)
def test_stream_law(depth: int) -> None:
    prove_stream_law(Queue(8, depth), outputs=["o"], inputs_assumed=["i"])


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_skid_buffer(simulator: str, depth: int) -> None:
    run_bench(
        SkidBuffer(16, depth),
        module=__name__,
        simulator=simulator,
        parameters={"pace": 1, "latency": 0},
    )


@pytest.mark.parametrize("depth", DEPTHS)
def test_skid_buffers_stream_law(depth: int) -> None:
    prove_stream_law(SkidBuffer(8, depth), outputs=["o"], inputs_assumed=["i"])


@cocotb.test()
@cocotb.parametrize(stalls=[(0.0, 0.0), (0.4, 0.4), (0.0, 0.6), (0.6, 0.0)])
async def order(dut: Any, stalls: tuple[float, float]) -> None:
    await bench.start(dut)
    source = Source(dut, "i", 16, bench.rng(), stalls[0])
    sink = Sink(dut, "o", 16, bench.rng(), stalls[1])
    start = cocotb.utils.get_sim_time("ns")
    sender = cocotb.start_soon(source.send_all(range(COUNT)))
    await sink.wait_for(COUNT)
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 2
    await sender
    assert sink.received == list(range(COUNT))
    if not any(stalls):
        assert cycles <= bench.parameters["pace"] * COUNT + 10


@cocotb.test()
async def latency(dut: Any) -> None:
    """Cycles from an item's transfer into an empty queue to its appearance at the output."""
    await bench.start(dut)
    dut.i__valid.value, dut.i__payload.value = 1, COUNT
    cycles = 0
    await ReadOnly()
    while not int(dut.o__valid.value) and cycles < 3:
        await RisingEdge(dut.clk)
        dut.i__valid.value = 0
        cycles += 1
        await ReadOnly()
    assert cycles == bench.parameters["latency"]
    assert int(dut.o__payload.value) == COUNT
