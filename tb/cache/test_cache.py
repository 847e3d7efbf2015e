"""The whole cache: clients, two memories and flushes."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.cache.cache import Cache
from loopnest_hw.cache.geometry import CacheConfig
from tb.cache.system import System
from tb.harness import SIMULATORS, bench, run_bench


@cocotb.test(timeout_time=100, timeout_unit="us")
async def all_at_once(dut: Any) -> None:
    """Few lines, all clients, and flushes at random times."""
    rng = bench.rng()
    parameters = bench.parameters
    await bench.start(dut)
    lines = [rng.randrange(1 << bench.parameters["config"]["line_bits"]) for _ in range(24)]
    system = System(
        dut,
        lambda c: lines[0] if rng.random() < 0.3 else rng.choice(lines),
        latency=tuple(parameters["latency"]),
        errors=parameters["errors"],
        pause=parameters["pause"],
    )
    for _ in range(bench.count(9)):
        for _ in range(rng.randrange(30)):
            line = rng.choice(lines)
            system.ahead[line % system.config.ports].append(line)
        await ClockCycles(dut.clk, rng.randint(1, 250))
        if rng.random() < 0.5:
            await system.drain()
        await system.flush()
    await ClockCycles(dut.clk, 300)
    await system.drain()
    dut._log.info("%s, %s, longest %d", system.events, system.answers, system.longest)
    assert sum(system.answers) > bench.count(400)
    assert system.errors or not parameters["errors"]
    events_ = system.events
    assert events_["requests"] >= events_["hits"] + events_["misses"] + events_["joined"]
    assert min(
        events_["hits"], events_["misses"], events_["joined"], events_["conflicts"]
    ) > bench.count(15)
    assert events_["waits"] >= events_["conflicts"]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def nothing_survives(dut: Any) -> None:
    """However many flushes follow each other, no line is kept: each is read again."""
    await bench.start(dut)
    todo: list[int] = []
    system = System(dut, lambda c: todo.pop() if todo else None, latency=(3, 3))
    for flushes in range((1 << system.config.epoch_bits) + 2):
        for _ in range(flushes):
            await system.flush()
            await ClockCycles(dut.clk, 2)
        before = sum(memory.reads for memory in system.memory)
        for _ in range(2):
            todo += range(4)
            await ClockCycles(dut.clk, 20)
            await system.drain()
        assert sum(memory.reads for memory in system.memory) == before + 4
    # nothing was on its way at a flush: all that was counted is known
    await ClockCycles(dut.clk, 5)
    counted = system.events
    assert counted["misses"] == sum(memory.reads for memory in system.memory)
    assert counted["requests"] == sum(system.answers)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def prefetched(dut: Any) -> None:
    """Lines that were read ahead are hits, and they are counted."""
    await bench.start(dut)
    todo: list[int] = []
    system = System(dut, lambda c: todo.pop() if todo else None, latency=(3, 9))
    await system.flush()
    wanted = range(4)
    for line in wanted:
        system.ahead[line % system.config.ports].append(line)
    await ClockCycles(dut.clk, 40)
    await system.drain()
    assert system.prefetched == sum(memory.reads for memory in system.memory) == len(wanted)
    todo += wanted
    await ClockCycles(dut.clk, 20)
    await system.drain()
    await ClockCycles(dut.clk, 5)
    counted = system.events
    assert sum(memory.reads for memory in system.memory) == len(wanted) == counted["hits"]
    assert counted["requests"] == 2 * len(wanted) and counted["misses"] == len(wanted)


CONFIG = {"clients": 3, "slot_bits": 3, "banks": 2, "ports": 1, "sets": 4, "ways": 2, "waiters": 2,
          "window": 2, "lanes": 2, "epoch_bits": 2, "line_bits": 12}  # fmt: skip
TWO_PORTS = CONFIG | {"clients": 2, "banks": 4, "ports": 2, "ways": 4, "waiters": 4, "lanes": 1,
                      "window": 4}  # fmt: skip
CONFIGS = {"tiny": CONFIG, "ports": TWO_PORTS}
CASES = {
    "fast": {"latency": (1, 1), "errors": 0, "pause": 0},
    "failing": {"latency": (1, 30), "errors": 0.1, "pause": 0.3},
}


RUNS = [
    ("verilator", "ports", "fast"),
    ("verilator", "ports", "failing"),
    ("icarus", "tiny", "failing"),
]


@pytest.mark.parametrize(
    ("simulator", "config", "case"), [run for run in RUNS if run[0] in SIMULATORS]
)
def test_cache(simulator: str, config: str, case: str) -> None:
    run_bench(
        Cache(CacheConfig(**CONFIGS[config])),
        module=__name__,
        simulator=simulator,
        parameters={"config": CONFIGS[config], **CASES[case]},
    )
