"""`ReadPort` and `WritePort` against a memory that delays, reorders and fails."""

from dataclasses import replace
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.axi import read_clients, read_slot_bits
from loopnest_hw.chip.memory_port import WRITES_OUTSTANDING, ReadPort, WritePort
from loopnest_hw.config import make_config
from loopnest_hw.tokens import LINE_WRITE, line_reply, line_request
from tb.chip.axi_memory import AxiMemory
from tb.harness import SIMULATORS, bench, run_bench, runs
from tb.streams import Sink, Source

CONFIG = make_config("shrunk", reads_outstanding=12)
SEVERAL = replace(CONFIG, pes=2, cache_banks=32, cache_lines=256)
CONFIGS = {config.pes: config for config in (CONFIG, SEVERAL)}
READS = 150
WRITES = 300


def make_memory(dut: Any) -> AxiMemory:
    """Return the memory that the bench's parameters describe."""
    parameters = bench.parameters
    return AxiMemory(
        dut,
        "bus__",
        bench.rng(),
        latency=tuple(parameters["latency"]),
        stall=parameters["memory_stall"],
        refuses=True,
    )


class Client:
    """Requests lines, each with a free slot, and checks the answers."""

    def __init__(self, dut: Any, number: int, memory: AxiMemory) -> None:
        self._memory = memory
        self._rng = bench.rng()
        self._dut = dut
        config = CONFIGS[bench.parameters["pes"]]
        slot_bits = read_slot_bits(config)
        self._slots = set(range(1 << slot_bits))
        self._source = Source(
            dut,
            f"request__{number}",
            line_request(config, slot_bits=slot_bits),
            bench.rng(),
            stall=bench.parameters["stall"],
        )
        reply = line_reply(config, slot_bits=slot_bits)
        command = number == len(read_clients(config)) - 1
        refuses = bench.parameters["refuses"] if command else 0.0
        Sink(dut, f"reply__{number}", reply, bench.rng(), refuses, check=self._check)
        self._expected: dict[int, int] = {}
        self.answered = 0
        self.errors = 0

    def _check(self, reply: dict[str, int]) -> None:
        line = self._expected.pop(reply["slot"])
        assert reply["error"] == (line in self._memory.read_errors)
        if not reply["error"]:
            assert reply["data"] == self._memory.line(line)
        self.answered += 1
        self.errors += reply["error"]

    async def run(self) -> None:
        """Read `READS` random lines."""
        for _ in range(READS):
            line = self._rng.randrange(1 << 27)
            if self._rng.random() < bench.parameters["errors"]:
                self._memory.read_errors.add(line)
            free = sorted(self._slots - set(self._expected))
            while not free:
                await RisingEdge(self._dut.clk)
                free = sorted(self._slots - set(self._expected))
            slot = self._rng.choice(free)
            self._expected[slot] = line
            await self._source.send({"line": line, "slot": slot})


@cocotb.test()
async def reads(dut: Any) -> None:
    """All clients read at once; every answer goes to the client that requested it."""
    memory = make_memory(dut)
    count = len(read_clients(CONFIGS[bench.parameters["pes"]]))
    clients = [Client(dut, number, memory) for number in range(count)]
    await bench.start(dut)
    tasks = [cocotb.start_soon(client.run()) for client in clients]
    for task in tasks:
        await task
    await ClockCycles(dut.clk, 1)
    assert not int(dut.idle.value)
    while any(client.answered < READS for client in clients):
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 3)
    assert int(dut.idle.value) and memory.quiet
    assert len(memory.reads) == count * READS
    assert bool(sum(client.errors for client in clients)) == bool(bench.parameters["errors"])
    assert bool(memory.refused) == bool(bench.parameters["refuses"])
    assert memory.max_in_flight <= CONFIG.reads_outstanding
    if bench.parameters["latency"][0] > CONFIG.reads_outstanding:
        assert memory.max_in_flight == CONFIG.reads_outstanding
    elif not bench.parameters["stall"] and not bench.parameters["memory_stall"]:
        cycles = memory.read_cycles[-1] - memory.read_cycles[0] + 1
        assert cycles == count * READS, "one read per cycle"


@cocotb.test()
async def writes(dut: Any) -> None:
    """Random strobed writes; the memory holds what a reference holds."""
    memory = make_memory(dut)
    source = Source(dut, "i", LINE_WRITE, bench.rng(), stall=bench.parameters["stall"])
    await bench.start(dut)
    rng = bench.rng()
    items = [
        {
            "line": rng.choice((rng.randrange(1 << 27), rng.randrange(8))),
            "data": rng.getrandbits(256),
            "strobe": rng.choice((rng.getrandbits(32), 0xFFFFFFFF)),
        }
        for _ in range(WRITES)
    ]
    expected: dict[int, int] = {}
    for item in items:
        mask = sum(0xFF << 8 * b for b in range(32) if item["strobe"] >> b & 1)
        old = expected.get(item["line"], memory.blank(item["line"]))
        expected[item["line"]] = old & ~mask | item["data"] & mask
    await source.send_all(items)
    await ClockCycles(dut.clk, 1)
    while not int(dut.idle.value):
        await RisingEdge(dut.clk)
    assert memory.quiet
    assert memory.writes == [item["line"] for item in items]
    assert memory.lines == expected
    if not bench.parameters["stall"] and not bench.parameters["memory_stall"]:
        assert memory.write_cycles[-1] - memory.write_cycles[0] + 1 == WRITES, "one write per cycle"

    assert not int(dut.error.value)
    memory.write_errors.add(9)
    await source.send({"line": 9, "data": 1, "strobe": 1})
    await source.send({"line": 10, "data": 1, "strobe": 1})
    await ClockCycles(dut.clk, 1)
    while not int(dut.idle.value):
        await RisingEdge(dut.clk)
    assert int(dut.error.value)
    dut.clear.value = 1
    await ClockCycles(dut.clk, 1)
    dut.clear.value = 0
    await ClockCycles(dut.clk, 2)
    assert not int(dut.error.value)


@cocotb.test()
async def no_response(dut: Any) -> None:
    """A memory that withholds its responses gets `WRITES_OUTSTANDING` writes."""
    memory = make_memory(dut)
    memory.latency = (2000, 2000)
    source = Source(dut, "i", LINE_WRITE, bench.rng())
    await bench.start(dut)
    cocotb.start_soon(
        source.send_all({"line": n, "data": n, "strobe": 1} for n in range(WRITES_OUTSTANDING + 9))
    )
    await ClockCycles(dut.clk, WRITES_OUTSTANDING + 100)
    assert len(memory.writes) == WRITES_OUTSTANDING


SMOOTH = {"stall": 0, "memory_stall": 0, "latency": (1, 1), "errors": 0, "refuses": 0}
CASES = {
    "fast": SMOOTH,
    "far": SMOOTH | {"latency": (40, 60), "errors": 0.1},
    "slow": SMOOTH | {"memory_stall": 0.5, "latency": (1, 30), "errors": 0.1, "refuses": 0.5},
    "idle": SMOOTH | {"stall": 0.7, "latency": (1, 30)},
}


@pytest.mark.parametrize(
    ("simulator", "case", "pes"),
    runs(
        [(case, pes) for case in CASES for pes in CONFIGS],
        icarus=[*((case, CONFIG.pes) for case in CASES), ("slow", SEVERAL.pes)],
    ),
)
def test_read_port(simulator: str, case: str, pes: int) -> None:
    """Reads."""
    run_bench(
        ReadPort(CONFIGS[pes]),
        module=__name__,
        simulator=simulator,
        parameters={"pes": pes, **CASES[case]},
        testcase="reads",
    )


@pytest.mark.parametrize("case", ["fast", "slow", "idle"])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_write_port(simulator: str, case: str) -> None:
    """Writes."""
    run_bench(
        WritePort(CONFIG),
        module=__name__,
        simulator=simulator,
        parameters=CASES[case],
        testcase="writes",
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_write_port_limit(simulator: str) -> None:
    """The limit of writes in flight."""
    run_bench(
        WritePort(CONFIG),
        module=__name__,
        simulator=simulator,
        parameters=CASES["fast"],
        testcase="no_response",
    )
