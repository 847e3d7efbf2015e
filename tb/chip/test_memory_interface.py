"""`MemoryInterface`: each line at its own port, whatever the two ports do at the same time."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.axi import read_slot_bits
from loopnest_hw.chip.memory_interface import MemoryInterface
from loopnest_hw.chip.overlap import FOUND
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.tokens import LINE_WRITE, line_reply, line_request
from tb.chip.axi_memory import AxiMemory
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, decode, encode

CONFIG = make_config("shrunk", pes=2, memory_ports=2, reads_outstanding=12)
PORTS = range(CONFIG.memory_ports)
LINES = 300
"""Lines that each client reads."""

SLOTS = 8
"""Lines that a client has in flight at once."""


class Client:
    """Reads lines of one port or of all, and checks the answers."""

    def __init__(self, dut: Any, names: tuple[str, str], memories: list[AxiMemory]) -> None:
        self._dut, self._memories = dut, memories
        command = names[0].startswith("command")
        slot_bits = CONFIG.pool_bits if command else read_slot_bits(CONFIG)
        request, reply = names
        layout = line_request(CONFIG, slot_bits=slot_bits)
        self._source = Source(dut, request, layout, bench.rng(), bench.parameters["stall"])
        answer = line_reply(CONFIG, slot_bits=slot_bits)
        Sink(dut, reply, answer, bench.rng(), check=self._check)
        self._expected: dict[int, int] = {}
        self.answered = 0

    def _check(self, reply: dict[str, int]) -> None:
        line = self._expected.pop(reply["slot"])
        memory = self._memories[line % len(PORTS)]
        assert reply["error"] == (line in memory.read_errors)
        assert reply["error"] or reply["data"] == memory.line(line)
        self.answered += 1

    async def read(self, lines: list[int]) -> None:
        for line in lines:
            while len(self._expected) == SLOTS:
                await RisingEdge(self._dut.clk)
            slot = min(set(range(SLOTS)) - set(self._expected))
            self._expected[slot] = line
            await self._source.send({"line": line, "slot": slot})


def memories(dut: Any, bus: str, **arguments: Any) -> list[AxiMemory]:
    """Return the memories behind the ports."""
    return [
        AxiMemory(
            dut,
            f"{bus}__{p}__",
            bench.rng(),
            latency=tuple(bench.parameters["latency"]),
            stall=bench.parameters["memory_stall"],
            **arguments,
        )
        for p in PORTS
    ]


def draw(rng: Any, port: int) -> dict[str, int]:
    """Return a write of one of the port's lines."""
    line = len(PORTS) * rng.randrange(64) + port
    return {"line": line, "data": rng.getrandbits(256), "strobe": rng.getrandbits(32)}


def set_idle(dut: Any) -> None:
    """Set the inputs that are no streams."""
    dut.clear.value = dut.forget.value = dut.counters.value = dut.result.value = 0
    dut.running.value = dut.reading.value = 1


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reads(dut: Any) -> None:
    """The cache reads through both ports while the command processor reads through either: every
    answer comes once, with its line, through the line's port.
    """
    rng, count = bench.rng(), bench.count(LINES)
    behind = memories(dut, "read_bus", refuses=True)
    clients = [Client(dut, (f"request__{p}__0", f"reply__{p}__0"), behind) for p in PORTS]
    clients.append(Client(dut, ("command_request", "command_reply"), behind))
    await bench.start(dut)
    set_idle(dut)
    drawn = [[rng.randrange(1 << 26) * 2 + p for _ in range(count)] for p in PORTS]
    # in order, as a descriptor's
    first = rng.randrange(1 << 20)
    drawn.append(list(range(first, first + count)))
    for p, memory in enumerate(behind):
        memory.read_errors |= {line for line in drawn[p] if rng.random() < 0.1}
    tasks = [cocotb.start_soon(c.read(lines)) for c, lines in zip(clients, drawn, strict=True)]
    counted = 0
    while any(client.answered < count for client in clients):
        await RisingEdge(dut.clk)
        counted += int(dut.lines_read.value)
    for task in tasks:
        await task
    await ClockCycles(dut.clk, 3)
    assert int(dut.reads_idle.value) and int(dut.clean.value)
    assert counted == sum(len(lines) for lines in drawn[:-1])
    for p, memory in enumerate(behind):
        assert all(line % len(PORTS) == p for line in memory.reads)
    requested = sorted(line for memory in behind for line in memory.reads)
    assert requested == sorted(line for lines in drawn for line in lines)
    assert not behind[0].refused
    if bench.parameters["latency"][1] > 1:
        assert behind[1].refused, "two answers for the command processor at the same time"


@cocotb.test(timeout_time=200, timeout_unit="us")
async def writes(dut: Any) -> None:
    """Each port's lines in their order; an error of either is one of the chip."""
    rng, count = bench.rng(), bench.count(LINES)
    behind = memories(dut, "write_bus")
    stall = bench.parameters["stall"]
    sources = [Source(dut, f"write__{p}", LINE_WRITE, bench.rng(), stall) for p in PORTS]
    await bench.start(dut)
    set_idle(dut)
    for failing in (None, 0, 1):
        items = [
            [
                {
                    "line": 2 * rng.randrange(64) + p,
                    "data": rng.getrandbits(256),
                    "strobe": ~0 % 2**32,
                }
                for _ in range(count)
            ]
            for p in PORTS
        ]
        if failing is not None:
            behind[failing].write_errors.add(items[failing][-1]["line"])
        for memory in behind:
            memory.writes.clear()
        tasks = [cocotb.start_soon(s.send_all(i)) for s, i in zip(sources, items, strict=True)]
        counted = 0
        while not all(task.done() for task in tasks) or not int(dut.writes_idle.value):
            await RisingEdge(dut.clk)
            counted += int(dut.lines_written.value)
        assert counted == sum(map(len, items))
        for memory, sent in zip(behind, items, strict=True):
            assert memory.quiet and memory.writes == [item["line"] for item in sent]
        await ClockCycles(dut.clk, 2)
        assert int(dut.write_error.value) == (failing is not None)
        dut.clear.value = 1
        await RisingEdge(dut.clk)
        dut.clear.value = 0
        await ClockCycles(dut.clk, 2)
        assert not int(dut.write_error.value)
        for memory in behind:
            memory.write_errors.clear()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def watches(dut: Any) -> None:
    """A read of the result is found at either port; a dead port is told from the other."""
    layout = kernel_layout(CONFIG).members["result"]
    behind = memories(dut, "read_bus", refuses=True)
    clients = [Client(dut, (f"request__{p}__0", f"reply__{p}__0"), behind) for p in PORTS]
    await bench.start(dut)
    set_idle(dut)
    for p in PORTS:
        fields = dict.fromkeys(layout.members, 0) | {"values": 0x1000, "values_end": 0x2000}
        dut.result.value = encode(layout, fields)
        for name in ("running", "clear"):  # one after the other
            getattr(dut, name).value = 1
            await ClockCycles(dut.clk, 2)
            dut.clear.value = 0
        await ClockCycles(dut.clk, 3)
        assert not decode(FOUND, int(dut.overlap.value))["valid"]
        await clients[p].read([0x1000 // LINE_BYTES + p])
        await ClockCycles(dut.clk, 10)
        while not int(dut.reads_idle.value):
            await RisingEdge(dut.clk)
        await ClockCycles(dut.clk, 4)
        found = decode(FOUND, int(dut.overlap.value))
        assert found["valid"] and not decode(FOUND, int(dut.next_overlap.value))["valid"]

        behind[p].mute = True
        await ClockCycles(dut.clk, 2)
        tasks = [cocotb.start_soon(client.read([number])) for number, client in enumerate(clients)]
        await ClockCycles(dut.clk, 200)
        assert int(dut.due.value) == 1 << p and not int(dut.moves.value)
        assert not int(dut.reads_idle.value)
        behind[p].mute = False
        await ClockCycles(dut.clk, 200)
        for task in tasks:
            await task
        assert not int(dut.due.value) and int(dut.reads_idle.value)


CASES: dict[str, dict[str, Any]] = {
    "fast": {"stall": 0.0, "memory_stall": 0.0, "latency": (1, 1)},
    "slow": {"stall": 0.3, "memory_stall": 0.4, "latency": (1, 30)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_memory_interface(simulator: str, case: str) -> None:
    run_bench(MemoryInterface(CONFIG), module=__name__, simulator=simulator, parameters=CASES[case])
