"""`Prefetcher`: each port's lines of random ranges, once, in order, a line per cycle."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.cache.geometry import CacheConfig, prefetch
from loopnest_hw.cache.prefetcher import Prefetcher
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.descriptor import PREFETCH_BITS, PREFETCHES
from loopnest_hw.kernel import kernel_layout
from loopnest_sim.model.prefetch import prefetched_lines
from tb.formal import prove_stream_law
from tb.harness import bench, run_bench, runs
from tb.streams import Sink, encode

CONFIGS = {ports: make_config("shrunk", "int8", pes=2, memory_ports=ports) for ports in (1, 2)}
MAX_LINES = (1 << PREFETCH_BITS) - 1


def drawn(rng: Any) -> list[dict[str, int]]:
    """Return random ranges: some empty, of one line, at the end of memory."""
    ranges = []
    for _ in range(PREFETCHES):
        lines = rng.choice([0, 1, 2, rng.randrange(40), rng.randrange(40)])
        address = rng.choice([rng.randrange(1 << 32), (1 << 32) - rng.randrange(1, 99)])
        ranges.append({"address": address, "lines": lines})
    return ranges


class Runs:
    """Runs the prefetcher from resets, and compares what it asks for."""

    def __init__(self, dut: Any, stall: float = 0.0) -> None:
        self._dut = dut
        self._config = CONFIGS[bench.parameters["ports"]]
        self._got: list[int] = []
        self._started = False
        shape = prefetch(CacheConfig.of(self._config))
        Sink(dut, "o", shape, bench.rng(), stall=stall, check=lambda i: self._got.append(i["line"]))

    def wanted(self, ranges: list[dict[str, int]]) -> list[int]:
        """Return the numbers of the port's lines, in order."""
        fields = {f"prefetch.{n}.{name}": r[name] for n, r in enumerate(ranges) for name in r}
        port = bench.parameters["port"]
        return (prefetched_lines(self._config, fields)[port] // LINE_BYTES).tolist()

    async def run(self, ranges: list[dict[str, int]]) -> int:
        """Run the ranges; return the cycles until the last line."""
        wanted = self.wanted(ranges)
        shape = kernel_layout(self._config).members["prefetch"]
        if not self._started:
            await bench.start(self._dut)
        self._started = True
        self._dut.rst.value = 1
        self._dut.ranges.value = encode(shape, ranges)
        await ClockCycles(self._dut.clk, 2)
        self._dut.rst.value = 0
        cycles = 0
        while len(self._got) < len(wanted):
            await RisingEdge(self._dut.clk)
            cycles += 1
            assert cycles < 20 * (len(wanted) + PREFETCHES), f"{len(self._got)} of {len(wanted)}"
        await ClockCycles(self._dut.clk, 30)
        assert self._got == wanted
        self._got.clear()
        return cycles


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def every_line(dut: Any, stall: float) -> None:
    """Random ranges, one set after the other."""
    rng = bench.rng()
    runs_ = Runs(dut, stall)
    for _ in range(bench.count(20)):
        await runs_.run(drawn(rng))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def rate(dut: Any) -> None:
    """A line per cycle, the first in the third, whatever the ranges."""
    rng = bench.rng()
    runs_ = Runs(dut)
    for _ in range(bench.count(20)):
        ranges = drawn(rng)
        lines = runs_.wanted(ranges)
        cycles = await runs_.run(ranges)
        assert cycles <= len(lines) + 3


@cocotb.test(timeout_time=200, timeout_unit="us")
async def long_range(dut: Any) -> None:
    """A range as long as there can be one."""
    ranges = [{"address": 0x20, "lines": MAX_LINES}] + [{"address": 0, "lines": 0}] * (
        PREFETCHES - 1
    )
    await Runs(dut).run(ranges)


CASES = [(1, 0), (2, 0), (2, 1)]


@pytest.mark.parametrize(("simulator", "ports", "port"), runs(CASES, icarus=[(2, 1)]))
def test_prefetcher(simulator: str, ports: int, port: int) -> None:
    run_bench(
        Prefetcher(CONFIGS[ports], port),
        module=__name__,
        simulator=simulator,
        parameters={"ports": ports, "port": port},
    )


def test_stream_law() -> None:
    prove_stream_law(Prefetcher(CONFIGS[2], 1), outputs=["o"])
