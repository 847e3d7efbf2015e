"""`Counters`: every counter counts its own event."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.cache import cache
from loopnest_hw.cache.geometry import CacheConfig
from loopnest_hw.chip.counters import Counters
from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.registers import CACHE_COUNTERS, STAGES, counters, pe_counter, snapshot_lines
from loopnest_hw.tokens import EVENTS
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import encode

CYCLES = 300
EVENT_OF = {
    "leaf_steps": "leaf_step",
    "passes": "again",
    "evictions": "eviction",
    "pool_full": "pool_full",
    "result_blocks": "result_blocks",
    "result_values": "result_values",
}
LINES = ("lines_read", "lines_written")
STATES = ("idle", "busy", "starved", "stalled")


def config() -> ChipConfig:
    """Return the chip of this bench."""
    ports = bench.parameters["ports"]
    return make_config("shrunk", pes=bench.parameters["pes"], memory_ports=ports)


async def marked(dut: Any) -> int:
    """Mark ``cycles`` while it counts; return its value in that cycle."""
    dut.busy.value = dut.mark.value = 1
    await RisingEdge(dut.clk)
    value = int(dut.value__0.value)
    dut.mark.value = 0
    await ClockCycles(dut.clk, 5)
    assert int(dut.value__0.value) > value
    dut.busy.value = 0
    return value


async def in_memory(dut: Any) -> list[int]:
    """Return the counters as they are written to memory."""
    raw = b""
    pes = bench.parameters["pes"]
    for number in range(snapshot_lines(pes)):
        dut.number.value = number
        await ClockCycles(dut.clk, 2)
        raw += int(dut.line.value).to_bytes(32, "little")
    found = [int.from_bytes(raw[n : n + 8], "little") for n in range(0, len(raw), 8)]
    count = len(counters(pes))
    assert not any(found[count:])
    return found[:count]


@cocotb.test()
async def counts(dut: Any) -> None:
    """Random events, added up twice with a clear between."""
    rng = bench.rng()
    pes = bench.parameters["pes"]
    dut.mark.value = dut.number.value = 0
    await bench.start(dut)
    for extra in range(2):
        expected = {name: 0 for name, _ in counters(pes)}
        dut.clear.value = 1
        await RisingEdge(dut.clk)
        dut.clear.value = 0
        for _ in range(CYCLES + extra):  # a bit that changes each cycle shows
            stepped: list[str] = []
            for n in range(pes):
                events = {event: rng.randrange(2) for event in EVENT_OF.values()}
                events["multiplies"] = rng.randrange(17)
                events["result_values"] = rng.randrange(17)
                events["result_blocks"] = rng.randrange(3)
                stage = [rng.randrange(4) for _ in STAGES]
                getattr(dut, f"events__{n}").value = encode(EVENTS, events | {"stage": stage})
                expected["multiplies"] += events["multiplies"]
                for counter, event in EVENT_OF.items():
                    expected[counter] += events[event]
                for name, state in zip(STAGES, stage, strict=True):
                    if STATES[state] != "idle":
                        expected[f"{name}_{STATES[state]}"] += 1
                        if name == "leaf" and pes > 1:
                            expected[pe_counter(n, f"leaf_{STATES[state]}")] += 1
                if events["leaf_step"] and pes > 1:
                    stepped.append(pe_counter(n, "last_step"))
            if pes > 1:
                layout = cache.events(CacheConfig.of(config()))
                happened = {event: rng.randrange(4) for event in layout.members}
                dut.cache.value = encode(layout, happened)
                for name, _ in CACHE_COUNTERS:
                    expected[name] += happened[name.removeprefix("cache_")]
            dut.busy.value = busy = rng.randrange(2)
            expected["cycles"] += busy
            expected |= dict.fromkeys(stepped, expected["cycles"])
            for line in LINES:
                happen = rng.randrange(1 + bench.parameters["ports"])
                getattr(dut, line).value = happen
                expected[line] += happen
            await RisingEdge(dut.clk)
        for n in range(pes):
            getattr(dut, f"events__{n}").value = 0
        for line in LINES:
            getattr(dut, line).value = 0
        if pes > 1:
            dut.cache.value = 0
        dut.busy.value = 0
        await ClockCycles(dut.clk, 3)
        found = {
            name: int(getattr(dut, f"value__{n}").value)
            for n, (name, _) in enumerate(counters(pes))
        }
        assert found == expected
        expected["cycles"] = await marked(dut)
        assert await in_memory(dut) == list(expected.values())
        assert all(expected.values())


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("pes", "ports"), [(1, 1), (3, 2)])
def test_counters(simulator: str, pes: int, ports: int) -> None:
    """Both simulators."""
    run_bench(
        Counters(make_config("shrunk", pes=pes, memory_ports=ports)),
        module=__name__,
        simulator=simulator,
        parameters={"pes": pes, "ports": ports},
    )
