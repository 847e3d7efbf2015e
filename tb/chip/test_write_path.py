"""`WritePath`: every line at its own port, after the region that the port fills."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.write_path import WritePath
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.tokens import LINE_WRITE
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, encode

RESULT = kernel_layout(make_config("shrunk")).members["result"]
KERNELS = 12
LINES = 30
"""Lines of a PE in a kernel."""

BASE = 0x4000


def draw(rng: Any, writer: int, number: int) -> dict[str, int]:
    """Return a line that tells who wrote it, and when."""
    line = BASE // LINE_BYTES + rng.randrange(64)
    data = rng.getrandbits(224) << 32 | number << 8 | writer
    return {"line": line, "data": data, "strobe": rng.getrandbits(32)}


@cocotb.test(timeout_time=200, timeout_unit="us")
async def every_line(dut: Any) -> None:
    """Kernels with and without a region to fill, each followed by the counters' lines."""
    rng, stall = bench.rng(), bench.parameters["stall"]
    pes, ports = bench.parameters["pes"], bench.parameters["ports"]
    sinks = [Sink(dut, f"o__{p}", LINE_WRITE, bench.rng(), stall) for p in range(ports)]
    sources = [Source(dut, f"pe__{n}", LINE_WRITE, bench.rng(), stall) for n in range(pes)]
    counters = Source(dut, "counters", LINE_WRITE, bench.rng(), stall)
    dut.hold.value, dut.result.value = 1, 0
    await bench.start(dut)
    for kernel in range(bench.count(KERNELS)):
        size = rng.randrange(64 * LINE_BYTES) if kernel % 2 else 0
        fields = dict.fromkeys(RESULT.members, 0)
        fields |= {"values": BASE, "values_end": BASE + size, "initialise": kernel % 2}
        fields["background"] = 0x01020304
        dut.result.value = encode(RESULT, fields)
        before = [len(sink.received) for sink in sinks]
        items = [[draw(rng, pe, n) for n in range(LINES)] for pe in range(pes)]
        dut.hold.value = 0
        await RisingEdge(dut.clk)
        tasks = [cocotb.start_soon(s.send_all(i)) for s, i in zip(sources, items, strict=True)]
        await ClockCycles(dut.clk, 2)
        while not int(dut.done.value) or not all(task.done() for task in tasks):
            await RisingEdge(dut.clk)
        dut.hold.value = 1
        last = [{"line": n, "data": n, "strobe": 1} for n in range(7)]
        await counters.send_all(last)
        await ClockCycles(dut.clk, 5)
        for p, (sink, first) in enumerate(zip(sinks, before, strict=True)):
            got = sink.received[first:]
            assert all(item["line"] % ports == p for item in got)
            filled = -(-size // LINE_BYTES)
            lines = range(BASE // LINE_BYTES, BASE // LINE_BYTES + filled)
            region = [line for line in lines if line % ports == p]
            assert [item["line"] for item in got[: len(region)]] == region
            rest = got[len(region) :]
            own = [item for item in last if item["line"] % ports == p]
            assert rest[len(rest) - len(own) :] == own
            for pe, sent in enumerate(items):
                mine = [item for item in rest[: -len(own)] if item["data"] & 0xFF == pe]
                assert mine == [item for item in sent if item["line"] % ports == p]
            assert len(rest) == len(own) + sum(
                item["line"] % ports == p for sent in items for item in sent
            )


@pytest.mark.parametrize(("pes", "ports"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_write_path(simulator: str, stall: float, pes: int, ports: int) -> None:
    run_bench(
        WritePath(make_config("shrunk", pes=pes, memory_ports=ports)),
        module=__name__,
        simulator=simulator,
        parameters={"stall": stall, "pes": pes, "ports": ports},
    )
