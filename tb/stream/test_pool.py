"""The line pool alone: clients with rings of their own request and take lines."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.stream.bank import equal_rings
from loopnest_hw.stream.pool import LinePool
from loopnest_hw.tokens import line_request
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.memory import LineMemory
from tb.streams import Source

CLIENTS = 3
LINES = 24
"""Fewer than the configuration's pool lines, and not a power of two."""
CONFIG = make_config("tiny", pool_lines=32)
IMAGE_LINES = 64
COUNT = 80
"""Lines that each client reads."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_pool(simulator: str) -> None:
    run_bench(LinePool(CONFIG, streams=CLIENTS, lines=LINES), module=__name__, simulator=simulator)


class Client:
    """Requests random lines while its ring has a free slot, and takes them in the same order."""

    def __init__(
        self, dut: Any, number: int, image: NDArray[np.uint8], rng: random.Random, stall: float
    ) -> None:
        self._dut = dut
        self._image = image
        self._rng = rng
        name = f"client__{number}"
        first, last = equal_rings(CLIENTS, LINES)[number]
        self._ring = range(first, last + 1)
        self._requests = Source(dut, f"{name}__request", line_request(CONFIG), rng, stall)
        self._takes = Source(dut, f"{name}__take", CONFIG.pool_bits, rng, stall)
        self._probe = getattr(dut, f"{name}__probe")
        self._arrived = getattr(dut, f"{name}__arrived")
        self._data = getattr(dut, f"{name}__data")
        self.asked: list[int] = []
        self.taken = 0

    async def ask(self) -> None:
        """Request all lines."""
        for n in range(COUNT):
            while n - self.taken >= len(self._ring):
                await RisingEdge(self._dut.clk)
            line = self._rng.randrange(IMAGE_LINES)
            self.asked.append(line)
            await self._requests.send({"line": line, "slot": self._ring[n % len(self._ring)]})

    async def take(self) -> None:
        """Take every line as soon as it has arrived, and compare it."""
        for n in range(COUNT):
            slot = self._ring[n % len(self._ring)]
            # a slot's flag toggles with every line that arrives
            turn = n // len(self._ring) % 2
            self._probe.value = slot
            await RisingEdge(self._dut.clk)
            while int(self._arrived.value) == turn:
                await RisingEdge(self._dut.clk)
            await self._takes.send(slot)
            await RisingEdge(self._dut.clk)
            at = self.asked[n] * LINE_BYTES
            line = self._image[at : at + LINE_BYTES].tobytes()
            assert int(self._data.value) == int.from_bytes(line, "little"), f"line {n}"
            self.taken += 1


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(timing=[(1, 0, 0.0), (30, 30, 0.0), (2, 9, 0.4)])
async def random_lines(dut: Any, timing: tuple[int, int, float]) -> None:
    """Every client gets its lines, whatever the order in which they arrive."""
    latency, spread, stall = timing
    rng = bench.rng()
    image = np.frombuffer(rng.randbytes(IMAGE_LINES * LINE_BYTES), np.uint8)
    memory = LineMemory(dut, CONFIG, image, rng, latency=latency, spread=spread, stall=stall)
    clients = [Client(dut, n, image, bench.rng(), stall) for n in range(CLIENTS)]
    await bench.start(dut)
    tasks = [cocotb.start_soon(work) for c in clients for work in (c.ask(), c.take())]
    for task in tasks:
        await task
    await ClockCycles(dut.clk, 20)
    assert [client.taken for client in clients] == [COUNT] * CLIENTS
    assert len(memory.lines) == CLIENTS * COUNT
    for client, (first, last) in zip(clients, equal_rings(CLIENTS, LINES), strict=True):
        asked = zip(memory.lines, memory.slots, strict=True)
        mine = [line for line, slot in asked if first <= slot <= last]
        assert mine == client.asked
    assert not int(dut.error.value)


@cocotb.test()
async def served_in_turn(dut: Any) -> None:
    """One request per cycle leaves, round-robin; no client waits longer than one round."""
    rng = bench.rng()
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    memory = LineMemory(dut, CONFIG, image, rng, latency=1)
    rings = equal_rings(CLIENTS, LINES)
    sources = [
        Source(dut, f"client__{n}__request", line_request(CONFIG), rng) for n in range(CLIENTS)
    ]
    await bench.start(dut)
    size = LINES // CLIENTS
    for (first, _), source in zip(rings, sources, strict=True):
        requests = [{"line": n, "slot": first + n} for n in range(size)]
        cocotb.start_soon(source.send_all(requests))
    await ClockCycles(dut.clk, LINES + 6)
    assert len(memory.slots) == LINES
    owners = [slot // size for slot in memory.slots]
    for at in range(0, LINES, CLIENTS):
        assert sorted(owners[at : at + CLIENTS]) == list(range(CLIENTS))


@cocotb.test()
async def flags(dut: Any) -> None:
    """`pool_full` while a client waits; `error` from a failed read to the reset."""
    rng = bench.rng()
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    LineMemory(dut, CONFIG, image, rng, latency=1, bad_lines=frozenset({5}))
    source = Source(dut, "client__1__request", line_request(CONFIG), rng)
    await bench.start(dut)
    first, _ = equal_rings(CLIENTS, LINES)[1]
    for waits in range(1 << CLIENTS):
        for n in range(CLIENTS):
            getattr(dut, f"client__{n}__waiting").value = waits >> n & 1
        await ClockCycles(dut.clk, 2)
        assert bool(int(dut.pool_full.value)) == (waits > 0)
    for n, line in enumerate((4, 5, 6)):
        await source.send({"line": line, "slot": first + n})
        await ClockCycles(dut.clk, 8)
        assert bool(int(dut.error.value)) == (line >= 5)
    dut.client__1__probe.value = first + 1
    await ClockCycles(dut.clk, 2)
    assert int(dut.client__1__arrived.value), "a line whose read failed counts as arrived"
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    assert not int(dut.error.value)
