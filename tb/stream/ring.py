"""A model of the line pool, from the side of the stream that owns a ring."""

import random
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BITS, LINE_BYTES, ChipConfig
from loopnest_hw.stream.line_store import given, numbered
from loopnest_hw.tokens import line_request
from tb.harness import bench
from tb.streams import Sink, Source

IMAGE_LINES = 256
"""Lines of the memory of `run_lines`."""


class RingMemory:
    """Answers requests at ``pool__request`` late and in any order, and passes the lines on.

    Parameters
    ----------
    image : NDArray[np.uint8]
        The memory from address 0 on, whole lines.
    ring : (int, int)
        Its first and last slot. It asserts that they are requested in turn, each only after its
        line has been taken.
    latency, spread : int
        Cycles from a request to the arrival, and up to how many more.
    stall : float
        Probability of not taking a request, or not passing on a line, in a cycle.
    """

    def __init__(
        self,
        dut: Any,
        config: ChipConfig,
        image: NDArray[Any],
        rng: random.Random,
        *,
        ring: tuple[int, int],
        latency: int,
        spread: int = 0,
        stall: float = 0.0,
    ) -> None:
        self._dut = dut
        self._image = image
        self._rng = rng
        self._base, self._size = ring[0], ring[1] - ring[0] + 1
        self._latency, self._spread = latency, spread
        self._due: dict[int, int] = {}
        self._lines: dict[int, int] = {}
        self._arrived = 0
        self._cycle = 0
        self._taken: int | None = None
        self.lines: list[int] = []
        """The requested lines, in order."""
        Sink(dut, "pool__request", line_request(config), rng, stall=stall, check=self._ask)
        Sink(dut, "pool__take", config.pool_bits, rng, stall=stall, check=self._take)
        cocotb.start_soon(self._run())

    def _ask(self, request: dict[str, int]) -> None:
        slot = request["slot"]
        assert slot == self._base + len(self.lines) % self._size
        assert slot not in self._lines, f"slot {slot} has a line"
        self.lines.append(request["line"])
        self._lines[slot] = request["line"]
        self._due[slot] = self._cycle + self._latency + self._rng.randint(0, self._spread)

    def _take(self, slot: int) -> None:
        assert slot not in self._due, f"slot {slot}: its line has not arrived"
        self._taken = self._lines.pop(slot)

    async def _run(self) -> None:
        dut, rng = self._dut, self._rng
        while True:
            # In the middle of a cycle, when signals that depend only on registers are stable.
            await FallingEdge(dut.clk)
            self._cycle += 1
            due = [slot for slot, cycle in self._due.items() if cycle <= self._cycle]
            if due:
                slot = rng.choice(due)
                del self._due[slot]
                self._arrived ^= 1 << slot
            dut.pool__arrived.value = self._arrived >> int(dut.pool__probe.value) & 1
            data = rng.getrandbits(8 * LINE_BYTES)
            if self._taken is not None:
                start = self._taken * LINE_BYTES
                data = int.from_bytes(self._image[start : start + LINE_BYTES].tobytes(), "little")
                self._taken = None
            dut.pool__data.value = data


async def run_lines(
    dut: Any,
    config: ChipConfig,
    numbers: Sequence[int | None],
    ring: tuple[int, int],
    *,
    rider: int = 0,
    stall: float = 0.0,
    **memory_options: Any,
) -> tuple[Sink, list[int]]:
    """Request these lines of a unit with ports ``i``, ``o``, ``ring`` and ``pool``, and compare
    them with the memory's; return the sink, and the lines that were read.

    With ``rider``, numbers and lines have so many bits that go along (`line_store.numbered`); for a
    number of None no line is taken.
    """
    rng = bench.rng()
    image = np.frombuffer(rng.randbytes(IMAGE_LINES * LINE_BYTES), np.uint8)
    source = Source(dut, "i", numbered(rider) if rider else LINE_BITS, rng, stall=stall)
    sink = Sink(dut, "o", given(rider) if rider else 8 * LINE_BYTES, rng, stall=stall)
    memory = RingMemory(dut, config, image, rng, ring=ring, stall=stall, **memory_options)
    await bench.start(dut)
    dut.ring.value = ring[0] | ring[1] << config.pool_bits
    await ClockCycles(dut.clk, 2)
    riders = [rng.getrandbits(rider) for _ in numbers]
    items: list[Any] = [*numbers]
    if rider:
        items = [
            {
                "take": n is not None,
                "line": rng.randrange(IMAGE_LINES) if n is None else n,
                "rider": along,
            }
            for n, along in zip(numbers, riders, strict=True)
        ]
    cocotb.start_soon(source.send_all(items))
    received = await sink.wait_for(len(numbers), idle=2000)
    for item, n, along in zip(received, numbers, riders, strict=True):
        if rider:
            assert (item["take"], item["rider"]) == (n is not None, along)
        if n is not None:
            line = image[n * LINE_BYTES : (n + 1) * LINE_BYTES].tobytes()
            assert (item["line"] if rider else item) == int.from_bytes(line, "little")
    await ClockCycles(dut.clk, 50)
    assert len(sink.received) == len(numbers)
    return sink, memory.lines
