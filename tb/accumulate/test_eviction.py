"""`Eviction` between a model of the directory and one of the table, against the golden choice."""

from collections import deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.eviction import Eviction
from loopnest_hw.accumulate.place import BANKS
from loopnest_hw.config import make_config
from loopnest_sim.model.accumulate import give_way
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CONFIG = make_config("shrunk", window=128, fibers_in_flight=4)
WORDS = CONFIG.window // BANKS
REQUESTS = 120
DONE = 2
"""Cycles from a request to its effect."""

AT_ONCE = 2
"""Places that the table queues before it reads them."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_eviction(simulator: str) -> None:
    run_bench(Eviction(CONFIG), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.5])
async def evictions(dut: Any, stall: float) -> None:
    """The bound, the mask that the word keeps, and every freed slot, in order."""
    rng = bench.rng()
    ports = Ports(dut, Eviction(CONFIG))
    await bench.start(dut)
    kinds = {"new": 0, "one": 0, "word": 0}
    for _ in range(REQUESTS):
        top, context = rng.randrange(WORDS), rng.randrange(CONFIG.fibers_in_flight)
        mask = rng.choice([1 << rng.randrange(BANKS), rng.getrandbits(BANKS) or 1, (1 << 32) - 1])
        word = rng.choice([top, top, rng.randrange(WORDS)])
        new = [b for b in range(BANKS) if word != top or not mask >> b & 1] or [BANKS - 1]
        if word == top and mask == (1 << 32) - 1:
            word = (top + 1) % WORDS
        candidate = word * BANKS + rng.choice(new)
        held = [top * BANKS + bank for bank in range(BANKS) if mask >> bank & 1]
        stay = give_way(held, candidate)
        bound, going = [*held, candidate][stay], held[stay:][::-1]
        kinds["new" if not going else "one" if word == top else "word"] += 1
        kept = sum(1 << bank for bank in range(BANKS) if mask >> bank & 1)
        for block in going:
            kept ^= 1 << block % BANKS

        left = list(going)
        asked: deque[int] = deque()  # places that are to be read
        slots: list[int] = []
        back: list[int] = []
        reading: int | None = None  # the slot being freed
        done = False
        idle = cycle = 0
        while idle < 3:
            await FallingEdge(dut.clk)
            assert ports["done"] == (cycle == DONE)
            assert ports["keep_valid"] == (cycle == DONE and bool(going))
            assert not ports["keep_valid"] or ports["keep"] == kept
            if ports["done"]:
                assert ports["bound"] == bound
                done = True
            ports["ask"] = not done or (cycle == DONE and rng.random() < 0.5)
            for name in ("candidate", "context", "top", "mask", "walk_entry"):
                ports.noise(name, rng)
            if not done:
                ports["candidate"], ports["context"], ports["top"] = candidate, context, top
            if cycle == 1:
                ports["mask"] = mask
            if reading is not None:
                entry = {"touched": rng.getrandbits(16), "slot": reading}
                ports["walk_entry"] = entry
            walked = bool(asked) and rng.random() >= stall
            ports["walked"] = walked
            ports["walk__ready"] = ready = len(asked) < AT_ONCE and rng.random() >= stall

            await RisingEdge(dut.clk)
            assert ports["look"] == (cycle == 0)
            assert ports["back_valid"] == ports["evicted"] == (reading is not None)
            if reading is not None:
                assert ports["back"] == reading
                back.append(reading)
            busy = bool(left) or bool(asked) or reading is not None
            assert ports["busy"] or not (busy and cycle > 0)
            reading = None
            if walked:
                asked.popleft()
                reading = rng.randrange(CONFIG.slots)
                slots.append(reading)
            if ports["walk__valid"]:
                place = ports["walk__payload"]
                assert place["place"] == {
                    "bank": left[0] % BANKS,
                    "word": top,
                    "context": context,
                }
                assert place["evicts"] and not place["closes"] and not place["none"]
                if ready:
                    asked.append(left.pop(0))
            else:
                assert not (left and cycle > DONE)
            cycle += 1
            idle = idle + 1 if done and not ports["busy"] else 0
        assert not left and not asked
        assert back == slots and len(back) == len(going)
    assert min(kinds.values()) > REQUESTS / 10, kinds
