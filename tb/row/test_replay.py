"""The replay buffer: order, retirement and replays."""

from typing import Any

import cocotb
import pytest
from amaranth.hdl import Shape
from cocotb.triggers import RisingEdge

from loopnest_hw.config import make_config
from loopnest_hw.row.replay import ReplayBuffer
from loopnest_hw.tokens import token
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, decode

COUNT = 150


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("depth", [1, 5, 64])
def test_replay(simulator: str, depth: int) -> None:
    run_bench(
        ReplayBuffer(make_config("tiny", fifo_depth=depth)), module=__name__, simulator=simulator
    )


def test_stream_law() -> None:
    prove_stream_law(
        ReplayBuffer(make_config("tiny", fifo_depth=4)), outputs=["o"], inputs_assumed=["i"]
    )


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.4], again=[0.0, 0.3])
async def tokens_are_done_in_order(dut: Any, stall: float, again: float) -> None:
    """A consumer that retires the oldest token, or requests a replay, receives every token in
    order.
    """
    await bench.start(dut)
    layout = token(make_config("tiny"))
    rng = bench.rng()
    source = Source(dut, "i", layout, bench.rng(), stall)
    sink = Sink(dut, "o", layout, bench.rng(), stall)
    retired = Source(dut, "retired", 1, bench.rng(), stall)
    width = Shape.cast(layout).width
    tokens = [decode(layout, rng.getrandbits(width)) | {"epoch": 0} for _ in range(COUNT)]
    cocotb.start_soon(source.send_all(tokens))
    done = replays = 0
    epoch = 0
    seen = 0
    while done < COUNT:
        await sink.wait_for(seen + 1)
        item = sink.received[seen]
        seen += 1
        if item["epoch"] != epoch:
            continue
        assert item | {"epoch": 0} == tokens[done], "a token was lost, or came out of order"
        if rng.random() < again:
            replays += 1
            epoch ^= 1
            await retired.send(1)
        else:
            done += 1
            await retired.send(0)
    for _ in range(10):
        await RisingEdge(dut.clk)
    assert (replays > 10) == (again > 0)
