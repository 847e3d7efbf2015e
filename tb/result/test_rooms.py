"""`Rooms`: pieces that follow each other, whichever PE asks for them."""

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Assume, Module, Signal
from cocotb.triggers import FallingEdge

from loopnest_hw.config import POSITION_BITS, make_config
from loopnest_hw.descriptor import PIECE_FIBERS, ROOM_BLOCKS, ROOM_VALUES
from loopnest_hw.result.rooms import Region, Rooms
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench

CONFIG = make_config("shrunk", pes=5)
UNITS = {"values": ROOM_VALUES, "blocks": ROOM_BLOCKS}
CYCLES = 150
KERNELS = 12


class Pieces:
    """The golden function: the start of each piece of a region in turn."""

    def __init__(self, fiber: int, unit: int) -> None:
        self._size = PIECE_FIBERS * max(1, fiber) * unit
        self._next = 0

    def take(self) -> int:
        """Return the next piece's start."""
        start = min(self._next, 1 << POSITION_BITS)
        self._next += self._size
        return start


def draw_fiber(rng: random.Random) -> int:
    """Return the room of a fiber: none, little, or so much that few or no pieces fit."""
    shifts = (20, 22, 24, 25, 26, 27, 29)
    return rng.choice(
        [
            rng.randrange(2),
            rng.randrange(1 << 10),
            rng.randrange(1 << rng.choice(shifts)),
            (1 << rng.choice(shifts)) - rng.randrange(2),
            (1 << 32) - 1,
        ]
    )


class Asker:
    """The PEs' requests for pieces of a region, and their checks.

    Parameters
    ----------
    often : float
        Probability that a PE that needs no piece asks for one, in a cycle.
    """

    def __init__(self, dut: Any, region: str, often: float) -> None:
        self._rng = bench.rng()
        self._often = often
        pes = range(CONFIG.pes)
        self._ask = [getattr(dut, f"pe__{n}__{region}__ask") for n in pes]
        self._granted = [getattr(dut, f"pe__{n}__{region}__granted") for n in pes]
        self._start = [getattr(dut, f"pe__{n}__{region}__start") for n in pes]
        self._waits = [0] * CONFIG.pes
        self._others: list[list[int]] = [[] for _ in pes]
        self.grants = [0] * CONFIG.pes
        self.beyond = 0

    def cycle(self, pieces: Pieces) -> int:
        """Check the outputs, and drive the inputs, of a cycle. Return the number of grants."""
        granted = [n for n, port in enumerate(self._granted) if int(port.value)]
        assert len(granted) <= 1
        if not granted:
            assert not any(self._waits), f"no grant, though waited for {self._waits} cycles"
        for n in granted:
            assert self._waits[n], f"{n} did not ask"
            start = int(self._start[n].value)
            assert start == pieces.take()
            self.beyond += start >> POSITION_BITS
            self.grants[n] += 1
        for n, ask in enumerate(self._ask):
            if self._waits[n] and n not in granted:
                self._others[n] += granted
                assert len(set(self._others[n])) == len(self._others[n]), f"{n} waits"
                self._waits[n] += 1
            else:
                self._others[n] = []
                # in the cycle of the grant a PE still asks
                done = n in granted
                self._waits[n] = int(not done and self._rng.random() < self._often)
                ask.value = int(done or self._waits[n])
        return len(granted)

    def stop(self) -> None:
        """Ask for nothing: the PEs are in reset."""
        self._waits = [0] * CONFIG.pes
        for ask in self._ask:
            ask.value = 0


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(often=[1.0, 0.5, 0.02])
async def kernels(dut: Any, often: float) -> None:
    """Both regions, with a reset before each kernel."""
    rng = bench.rng()
    await bench.start(dut)
    askers = {region: Asker(dut, region, often) for region in UNITS}
    total = 0
    cycles = bench.count(CYCLES)
    for _ in range(KERNELS):
        await FallingEdge(dut.clk)
        for asker in askers.values():
            asker.stop()
        dut.rst.value = 1
        fibers = {region: draw_fiber(rng) for region in UNITS}
        dut.fiber_values.value, dut.fiber_blocks.value = fibers["values"], fibers["blocks"]
        pieces = {region: Pieces(fibers[region], unit) for region, unit in UNITS.items()}
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        for _ in range(cycles):
            total += sum(asker.cycle(pieces[region]) for region, asker in askers.items())
            await FallingEdge(dut.clk)
    for region, asker in askers.items():
        dut._log.info("%s: %s, %d beyond", region, asker.grants, asker.beyond)
        assert asker.beyond
        assert min(asker.grants) > cycles * KERNELS * often / 60
    if often == 1.0:
        assert total >= 2 * KERNELS * (cycles - 1), "one of each region per cycle"


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_rooms(simulator: str) -> None:
    run_bench(Rooms(CONFIG), module=__name__, simulator=simulator)


@pytest.mark.parametrize("region", UNITS)
def test_rooms_proof(region: str) -> None:
    """Each piece starts where the one before it ends, or at 2^32, and goes to a PE that asks."""

    def constant(m: Module, unit: Any) -> None:
        before = Signal.like(unit.fiber, reset_less=True)
        settled = Signal(reset_less=True)
        m.d.sync += [before.eq(unit.fiber), settled.eq(1)]
        m.d.comb += Assume(~settled | (before == unit.fiber))

    prove_stream_law(Region(3, unit=UNITS[region]), outputs=[], properties=constant)
