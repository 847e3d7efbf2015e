"""`Words` against a dictionary of masks."""

import random
from collections import Counter, deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.place import BANKS, WORD_BITS
from loopnest_hw.accumulate.words import Words, word_set_bits
from loopnest_hw.config import make_config
from tb.accumulate.colliding import colliding_words
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CONFIG = make_config("shrunk", slots=48, fibers_in_flight=4)
CONTEXTS = CONFIG.fibers_in_flight
CYCLES = 2400
SETTLED = 2
"""Cycles after which a block that was put can be found."""

Word = tuple[int, int]
"""Context and word."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_words(simulator: str) -> None:
    run_bench(Words(CONFIG), module=__name__, simulator=simulator)


async def sweep(dut: Any, ports: Ports, rng: random.Random) -> None:
    """Clear the tables."""
    for set_ in range(1 << word_set_bits(CONFIG)):
        await FallingEdge(dut.clk)
        ports["sweep"], ports["sweep_set"] = 1, set_
    await FallingEdge(dut.clk)
    ports["sweep"] = 0
    ports.noise("sweep_set", rng)


@cocotb.test()
@cocotb.parametrize(
    # words that collide, of all; puts; finds
    traffic=[(0.0, 1.0, 0.9), (0.0, 0.5, 0.5), (0.7, 0.9, 0.7), (1.0, 1.0, 1.0)]
)
async def blocks_and_words(dut: Any, traffic: tuple[float, float, float]) -> None:
    """Contexts are filled, walked word by word and filled again; no more words than slots."""
    collisions, put_pace, find_pace = traffic
    rng = bench.rng()
    ports = Ports(dut, Words(CONFIG))
    await bench.start(dut)
    await sweep(dut, ports, rng)
    seen: Counter[str] = Counter()
    masks: dict[Word, int] = {}
    settled: dict[int, int] = {}  # cycles since the last put of each context
    filling = 0
    put: tuple[int, int, int] | None = None
    entering: deque[tuple[int, int, int]] = deque()
    walk: list[Word] = []
    find: Word | None = None
    finding: deque[Word] = deque()
    spans = [
        [rng.randrange(1 << WORD_BITS) for _ in range(14)],
        colliding_words(CONFIG)[:40],
    ]
    waits = 0
    cycles = bench.count(CYCLES)
    for _ in range(cycles):
        await FallingEdge(dut.clk)
        if put is None and rng.random() < put_pace:
            span = spans[rng.random() < collisions]
            word = (filling, rng.choice(span))
            reserved = set(masks) | {other[:2] for other in entering}
            if len(reserved) < CONFIG.slots or word in reserved:
                put = (*word, rng.randrange(BANKS))
        if not walk and find is None and not finding:
            full = [c for c in range(CONTEXTS) if c != filling and any(w[0] == c for w in masks)]
            inside = {other[0] for other in entering} | ({put[0]} if put else set())
            full = [c for c in full if c not in inside]
            if full and settled.get(full[0], 0) > SETTLED:
                walk = sorted(w for w in masks if w[0] == full[0])
        if walk and find is None and rng.random() < find_pace:
            find = walk.pop(0)
        if rng.random() < 0.02:
            free = [c for c in range(CONTEXTS) if not any(w[0] == c for w in masks)]
            if free:
                filling = free[0]
        ports["put__valid"] = put is not None
        ports.noise("put__payload", rng)
        if put is not None:
            context, word_number, bank = put
            ports["put__payload"] = {"context": context, "word": word_number, "bank": bank}
        ports["find__valid"] = find is not None
        ports.noise("find__payload", rng)
        if find is not None:
            place = {"context": find[0], "word": find[1]}
            ports["find__payload"] = {"place": place, "remove": 1}
        ports["mask__ready"] = ready = rng.random() < find_pace
        await RisingEdge(dut.clk)
        if ports["added"]:
            place = ports["place"]
            assert (place["context"], place["word"]) == entering[0][:2]
            assert entering[0][:2] not in masks
            seen["new"] += 1
        assert ports["busy"] == bool(entering)
        if entering and not ports["stalled"]:
            context, word_number, bank = entering.popleft()
            assert ports["added"] == ((context, word_number) not in masks)
            masks[context, word_number] = masks.get((context, word_number), 0) | 1 << bank
            settled[context] = 0
            seen["entered"] += 1
        seen["stalled"] += ports["stalled"]
        waits = waits + 1 if ports["stalled"] else 0
        assert waits < 5 << word_set_bits(CONFIG)
        for context in range(CONTEXTS):
            settled[context] = settled.get(context, 0) + 1
        if ports["mask__valid"]:
            assert ports["mask__payload"] == masks[finding[0]]
            if ready:
                del masks[finding.popleft()]
                seen["found"] += 1
        if put is not None and ports["put__ready"]:
            entering.append(put)
            settled[put[0]] = 0
            put = None
        if find is not None and ports["find__ready"]:
            finding.append(find)
            find = None
    dut._log.info("%s", seen)
    assert min(seen["entered"], seen["new"], seen["found"]) > cycles / 50
    # without collisions it waits only while a word is removed from the same table
    assert (seen["stalled"] > cycles / 10) == bool(collisions)
    if not collisions and put_pace == 1:
        assert seen["entered"] > 0.7 * cycles


@cocotb.test()
async def evictions(dut: Any) -> None:
    """The mask of a word that was found is replaced, or the word is gone."""
    rng = bench.rng()
    ports = Ports(dut, Words(CONFIG))
    await bench.start(dut)
    await sweep(dut, ports, rng)
    words = colliding_words(CONFIG)[:30]
    masks = {word: 1 << rng.randrange(BANKS) for word in words}
    for word, mask in masks.items():
        await FallingEdge(dut.clk)
        ports["put__valid"] = 1
        ports["put__payload"] = {"context": 0, "word": word, "bank": mask.bit_length() - 1}
        await RisingEdge(dut.clk)
        while not ports["put__ready"]:
            await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    ports["put__valid"] = 0
    while ports["busy"]:
        await RisingEdge(dut.clk)
    while masks:
        word = rng.choice(list(masks))
        await FallingEdge(dut.clk)
        ports["find__valid"] = ports["mask__ready"] = 1
        ports["find__payload"] = {"place": {"context": 0, "word": word}, "remove": 0}
        await FallingEdge(dut.clk)
        ports["find__valid"] = 0
        while not ports["mask__valid"]:
            await RisingEdge(dut.clk)
        assert ports["mask__payload"] == masks[word]
        await FallingEdge(dut.clk)
        keep = rng.choice([0, rng.getrandbits(BANKS)])
        ports["keep"], ports["keep_valid"] = keep, 1
        masks[word] = keep
        if not keep:
            del masks[word]
        await FallingEdge(dut.clk)
        ports["keep_valid"] = 0
        ports.noise("keep", rng)
