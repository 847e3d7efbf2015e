"""The eager fork."""

from typing import Any

import cocotb
import pytest
from amaranth.hdl import Assume, Module, Signal
from cocotb.triggers import ClockCycles

from loopnest_hw.row.fork import Fork
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source

OUTPUTS = 3
COUNT = 200


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_fork(simulator: str) -> None:
    run_bench(Fork(16, OUTPUTS), module=__name__, simulator=simulator)


def test_stream_law() -> None:
    def wanted_holds(m: Module, fork: Fork) -> None:
        before = Signal(OUTPUTS)
        waiting = Signal()
        m.d.sync += [before.eq(fork.wanted), waiting.eq(fork.i.valid & ~fork.i.ready)]
        m.d.comb += Assume(~waiting | (before == fork.wanted))

    prove_stream_law(
        Fork(16, OUTPUTS),
        outputs=[f"o__{n}" for n in range(OUTPUTS)],
        inputs_assumed=["i"],
        properties=wanted_holds,
    )


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.4], sometimes=[False, True])
async def every_output_gets_its_items(dut: Any, stall: float, sometimes: bool) -> None:
    await bench.start(dut)
    rng = bench.rng()
    source = Source(dut, "i", 16, bench.rng(), stall)
    sinks = [Sink(dut, f"o__{n}", 16, bench.rng(), stall) for n in range(OUTPUTS)]
    await ClockCycles(dut.clk, 2)
    everything = (1 << OUTPUTS) - 1
    expected: list[list[int]] = [[] for _ in sinks]
    for item in range(COUNT):
        wanted = rng.randrange(everything + 1) if sometimes else everything
        dut.wanted.value = wanted
        for n in range(OUTPUTS):
            if wanted >> n & 1:
                expected[n].append(item)
        await source.send(item)
    await ClockCycles(dut.clk, 10)
    assert [sink.received for sink in sinks] == expected
    assert all(len(items) > COUNT // 4 for items in expected)
    if not stall and not sometimes:
        assert sinks[0].cycles[-1] - sinks[0].cycles[0] == COUNT - 1, "not one item per cycle"


@cocotb.test()
async def no_output_waits_for_another(dut: Any) -> None:
    await bench.start(dut)
    source = Source(dut, "i", 16, bench.rng())
    sinks = [Sink(dut, f"o__{n}", 16, bench.rng(), float(n == 1)) for n in range(OUTPUTS)]
    dut.wanted.value = (1 << OUTPUTS) - 1
    sender = cocotb.start_soon(source.send_all([7, 8]))
    await ClockCycles(dut.clk, 10)
    assert [sink.received for sink in sinks] == [[7], [], [7]]
    sinks[1].stall = 0.0
    await sender
    await ClockCycles(dut.clk, 10)
    assert [sink.received for sink in sinks] == [[7, 8]] * OUTPUTS


@cocotb.test()
async def a_reset_forgets_who_has_the_item(dut: Any) -> None:
    await bench.start(dut)
    Source(dut, "i", 16, bench.rng())
    dut.i__valid.value, dut.i__payload.value = 1, 5
    dut.wanted.value = (1 << OUTPUTS) - 1
    for taking in range(OUTPUTS - 1):
        getattr(dut, f"o__{taking}__ready").value = 1
    await ClockCycles(dut.clk, 3)
    valid = [getattr(dut, f"o__{n}__valid") for n in range(OUTPUTS)]
    assert [int(v.value) for v in valid] == [0] * (OUTPUTS - 1) + [1]
    dut.rst.value = 1
    for taking in range(OUTPUTS - 1):
        getattr(dut, f"o__{taking}__ready").value = 0
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)
    assert [int(v.value) for v in valid] == [1] * OUTPUTS
