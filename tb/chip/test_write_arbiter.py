"""`WriteArbiter`: every line once, those of a PE in order, and no PE waits for long."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.write_arbiter import WriteArbiter
from loopnest_hw.config import make_config
from loopnest_hw.tokens import LINE_WRITE
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source

CONFIG = make_config("shrunk", pes=5)
LINES = 200
"""Lines of a PE."""


class Watch:
    """Checks ``idle`` in every cycle, and how many lines of others go before a PE's."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self.inside = 0
        self._waited: list[list[int]] = [[0] * CONFIG.pes for _ in range(CONFIG.pes)]
        self.idle = 0
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut = self._dut
        while True:
            await RisingEdge(dut.clk)
            ports = [f"i__{n}" for n in range(CONFIG.pes)]
            offered = [int(getattr(dut, f"{port}__valid").value) for port in ports]
            ready = [int(getattr(dut, f"{port}__ready").value) for port in ports]
            taken = [n for n in range(CONFIG.pes) if offered[n] and ready[n]]
            assert len(taken) <= 1
            idle = int(dut.idle.value)
            assert idle == (self.inside == 0 and not any(offered))
            self.idle += idle
            self.inside += len(taken) - (int(dut.o__valid.value) & int(dut.o__ready.value))
            for n, waited in enumerate(self._waited):
                for other in taken:
                    waited[other] += 1
                    assert n == other or waited[other] <= 1, f"{n} waits for {other}"
                if n in taken or not offered[n]:
                    self._waited[n] = [0] * CONFIG.pes


def draw(rng: Any, pe: int, number: int) -> dict[str, int]:
    """Return a PE's line of this number."""
    data = rng.getrandbits(240) << 16 | number
    return {"line": pe, "data": data, "strobe": rng.getrandbits(32)}


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(timing=[(0.0, 0.0), (0.0, 0.6), (0.9, 0.0), (0.6, 0.6)])
async def every_line(dut: Any, timing: tuple[float, float]) -> None:
    """All PEs write at once, or now and then; one of them writes as fast as it can."""
    stall, slow = timing
    rng = bench.rng()
    count = bench.count(LINES)
    lines = [[draw(rng, pe, n) for n in range(count)] for pe in range(CONFIG.pes)]
    sink = Sink(dut, "o", LINE_WRITE, bench.rng(), slow)
    sources = [
        Source(dut, f"i__{pe}", LINE_WRITE, bench.rng(), stall if pe else 0.0)
        for pe in range(CONFIG.pes)
    ]
    await bench.start(dut)
    watch = Watch(dut)
    for source, items in zip(sources, lines, strict=True):
        cocotb.start_soon(source.send_all(items))
    await sink.wait_for(CONFIG.pes * count)
    await ClockCycles(dut.clk, 5)
    assert int(dut.idle.value) and watch.inside == 0
    for pe, items in enumerate(lines):
        assert [item for item in sink.received if item["line"] == pe] == items
    assert len(sink.received) == CONFIG.pes * count
    if not stall and not slow:
        assert sink.cycles[-1] - sink.cycles[0] == CONFIG.pes * count - 1, "one line per cycle"
    if stall > 0.8:
        assert watch.idle > count // 10


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_write_arbiter(simulator: str) -> None:
    run_bench(WriteArbiter(CONFIG), module=__name__, simulator=simulator)
