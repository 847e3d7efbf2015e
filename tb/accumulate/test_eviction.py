"""`Eviction` between a model of the directory and one of the table, against the golden choice."""

import random
from collections import deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.eviction import Eviction
from loopnest_hw.accumulate.place import BANKS, WORD_BITS
from loopnest_hw.config import make_config
from loopnest_sim.model.accumulate import give_way
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CONFIG = make_config("shrunk", fibers_in_flight=4, slots=160)
REQUESTS = 150

AT_ONCE = 2
"""Places that the table queues before it reads them."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_eviction(simulator: str) -> None:
    run_bench(Eviction(CONFIG), module=__name__, simulator=simulator)


def block(number: int) -> dict[str, int]:
    """Return a block's coordinate as the layout has it."""
    return {"bank": number % BANKS, "word": number // BANKS}


def random_held(rng: random.Random) -> list[int]:
    """Return the blocks of a context: a few words."""
    words = rng.sample(range(1 << WORD_BITS), rng.randint(1, 8))
    full = (1 << BANKS) - 1
    masks = [1 << rng.randrange(BANKS), rng.getrandbits(BANKS) or 1, full]
    return sorted(
        word * BANKS + bank
        for word in words
        for mask in [rng.choice([masks[0], masks[0], *masks[1:]])]
        for bank in range(BANKS)
        if mask >> bank & 1
    )


def random_candidate(rng: random.Random, held: list[int]) -> int:
    """Return a new block: near one that is held, in its word if possible, or anywhere."""
    near = rng.choice([held[-1], rng.choice(held)]) // BANKS * BANKS
    span = list(range(near, near + BANKS)) if rng.random() < 0.8 else range(BANKS << WORD_BITS)
    free = [number for number in span if number not in held]
    return rng.choice(free or [number for number in range(held[-1]) if number not in held])


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.5])
async def evictions(dut: Any, stall: float) -> None:
    """The bound, the masks that the words keep, and every freed slot, in order."""
    rng = bench.rng()
    ports = Ports(dut, Eviction(CONFIG))
    await bench.start(dut)
    kinds = {"new": 0, "one": 0, "word": 0, "words": 0, "all": 0}
    for _ in range(REQUESTS):
        context = rng.randrange(CONFIG.fibers_in_flight)
        held = random_held(rng)
        candidate = random_candidate(rng, held)
        stay = give_way(held, candidate, CONFIG.evicted_slots)
        bound, going = [*held, candidate][stay], held[stay:][::-1]
        words = sorted({number // BANKS for number in going}, reverse=True)
        kind = "words" if len(words) > 1 else "word" if candidate // BANKS not in words else "one"
        kinds["new" if not going else "all" if not stay else kind] += 1

        masks = {word: 0 for number in held for word in [number // BANKS]}
        for number in held:
            masks[number // BANKS] |= 1 << number % BANKS
        left = list(going)
        asked: deque[int] = deque()  # places that are to be read
        back = 0
        # the directory: cycles until it answers, and what it has answered
        answer = -1
        top: int | None = None
        looks = nexts = cycle = 0
        done = False
        idle = 0
        while idle < 3:
            await FallingEdge(dut.clk)
            if ports["keep_valid"]:
                assert top is not None
                assert not masks[top] & ports["keep"] ^ ports["keep"]
                masks[top] = ports["keep"]
                if not masks[top]:
                    del masks[top]
            done |= bool(ports["done"])
            if ports["done"]:
                assert ports["bound"] == block(bound)
            ports["ask"] = not done or (bool(ports["done"]) and rng.random() < 0.5)
            for name in ("candidate", "context", "walk_entry"):
                ports.noise(name, rng)
            if not done:
                ports["candidate"], ports["context"] = block(candidate), context
            ports["looked"] = answer == 0
            if answer == 0:
                left_words = [w for w in masks if top is None or w < top]
                ports["none"] = not left_words
                if left_words:
                    top = max(left_words)
                    ports["top"], ports["mask"] = top, masks[top]
            answer -= answer >= 0
            walked = bool(asked) and rng.random() >= stall
            ports["walked"] = walked
            slot = rng.randrange(CONFIG.slots)
            ports["walk_entry"] = {"touched": rng.getrandbits(16), "slot": slot}
            ports["walk__ready"] = ready = len(asked) < AT_ONCE and rng.random() >= stall

            await RisingEdge(dut.clk)
            assert ports["look"] == (cycle == 0)
            if ports["look"] or ports["next"]:
                assert not (ports["look"] and ports["next"]) and answer < 0
                answer = rng.randrange(1, 6)
                looks += ports["look"]
                nexts += ports["next"]
            assert ports["back_valid"] == ports["evicted"] == walked
            assert ports["busy"] or not ((left or asked) and cycle > 0)
            if walked:
                assert ports["back"] == slot
                back += 1
                asked.popleft()
            if ports["walk__valid"]:
                place = ports["walk__payload"]
                assert place["place"] == {**block(left[0]), "context": context}
                assert place["evicts"] and not place["closes"] and not place["none"]
                if ready:
                    asked.append(left.pop(0))
            cycle += 1
            assert cycle < 1000
            idle = idle + 1 if done and not ports["busy"] else 0
        assert not left and not asked and back == len(going)
        assert looks == 1 and nexts <= len(words)
        kept = sorted(w * BANKS + b for w, m in masks.items() for b in range(BANKS) if m >> b & 1)
        assert kept == held[:stay]
    assert min(kinds.values()) > REQUESTS / 40, kinds
