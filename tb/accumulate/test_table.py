"""`Table` between models of its neighbours, against lookups done one after the other."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.accumulate.entries import LOW_WORDS
from loopnest_hw.accumulate.place import BANKS
from loopnest_hw.accumulate.table import RETIRED, Table
from loopnest_hw.config import LANES, make_config
from loopnest_hw.tokens import PAIR, found, lookup
from loopnest_sim.model.accumulate import give_way
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports
from tb.streams import Sink, Source

CONFIG = make_config("shrunk", window=256, slots=7, fibers_in_flight=4)
WORDS = CONFIG.window // BANKS
POINTERS = 2 * CONFIG.fibers_in_flight

Place = tuple[int, int, int]
"""Context, word and bank."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_table(simulator: str) -> None:
    run_bench(Table(CONFIG), module=__name__, simulator=simulator)


@dataclass
class Lookups:
    """Reference: executes lookups one after the other, with all slots that other contexts do not
    use.
    """

    replayable: bool
    epoch: int = 0
    context: int = 0
    lower: int = 0
    upper: int | None = None
    error: bool = False
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Lanes and slot of each block of the pass; blocks count from `base`."""
    dropped: set[int] = field(default_factory=set)
    slots: deque[int] = field(default_factory=deque)
    """The slots that the unit took, in order."""
    writes: list[tuple[Place, int, int]] = field(default_factory=list)
    puts: list[Place] = field(default_factory=list)
    shorts: list[tuple[int, int]] = field(default_factory=list)
    """Contexts and blocks for which slots ran out."""
    ends: list[tuple[int, bool]] = field(default_factory=list)
    """Each context's first word, and whether its fiber continues in a further pass."""
    retired: list[dict[str, int]] = field(default_factory=list)

    @property
    def base(self) -> int:
        """The first block of the pass's first word."""
        return self.lower // BANKS * BANKS

    def step(self, item: dict[str, Any]) -> dict[str, Any]:
        """Execute a lookup; return its answer, with ``slot`` None for a block that is not kept."""
        answer: dict[str, Any] = {"keep": 0, "slot": [None] * PAIR, "first": [0] * PAIR}
        if item["epoch"] != self.epoch:
            return {**answer, "stale": 1}
        blocks = [block - self.base for block in item["block"][: item["count"]]]
        keep = [block + self.base >= self.lower and block < self.window for block in blocks]
        self.dropped |= {block for block in blocks if block >= CONFIG.window}
        self._make_room(blocks, keep)
        place = self.context % CONFIG.fibers_in_flight
        for n, block in enumerate(blocks):
            if keep[n]:
                mask = item["mask"][n]
                new = block not in self.held
                touched, slot = (0, self.slots.popleft()) if new else self.held[block]
                self.held[block] = (touched | mask, slot)
                here = (place, *divmod(block, BANKS))
                if new:
                    self.puts.append(here)
                if mask & ~touched:
                    self.writes.append((here, touched | mask, slot))
                answer["keep"] |= 1 << n
                answer["slot"][n] = slot
                answer["first"][n] = mask & ~touched
        again = bool(item["end"] and self.dropped and self.replayable)
        if item["retire"] or again:
            self.retired.append({"again": int(again)})
        if item["end"]:
            self._end(again)
        return {**answer, "stale": 0}

    @property
    def window(self) -> int:
        """The first block that the pass drops."""
        return CONFIG.window if self.upper is None else self.upper

    def _make_room(self, blocks: list[int], keep: list[bool]) -> None:
        """Evict blocks until the new ones have slots; drop those above."""
        while True:
            for n, block in enumerate(blocks):
                if self.base + block >= self.lower and block >= self.window:
                    keep[n] = False
                    self.dropped.add(block)
            new = [block for n, block in enumerate(blocks) if keep[n] and block not in self.held]
            free = CONFIG.slots - len(self.held)
            if len(new) <= free:
                return
            self.shorts.append((self.context, new[free]))
            held = sorted(self.held)
            stay = give_way(held, new[free])
            self.upper = [*held, new[free]][stay]
            self.dropped.add(self.upper)
            for block in held[stay:]:
                del self.held[block]

    def _end(self, again: bool) -> None:
        """End the pass."""
        self.ends.append((self.base // BANKS, again))
        self.error |= bool(self.dropped) and not again
        self.lower = self.base + min(self.dropped) if again else 0
        self.epoch ^= again
        self.upper = None
        self.held.clear()
        self.dropped.clear()
        self.context += 1


class Leaf:
    """Sends the lookups of fibers, and resends those of a fiber that is replayed."""

    def __init__(
        self, dut: Any, fibers: list[list[dict[str, Any]]], model: Lookups, stall: float
    ) -> None:
        self._fibers = fibers
        self._model = model
        self._clock = dut.clk
        self._asked: deque[dict[str, Any]] = deque()
        self._at = (0, 0)
        self._oldest = self._epoch = 0
        self.answers = self.stale = 0
        self.source = Source(dut, "lookup", lookup(CONFIG), bench.rng(), stall)
        self.retired = Sink(dut, "retired", RETIRED, bench.rng(), stall, check=self._retire)
        self.found = Sink(dut, "found", found(CONFIG), bench.rng(), stall, check=self._answer)

    @property
    def done(self) -> bool:
        """Everything was sent, answered and retired."""
        return self._oldest == len(self._fibers) and not self._asked

    async def send(self) -> None:
        """Send everything."""
        while True:
            number, position = self._at
            if number == len(self._fibers):
                await RisingEdge(self._clock)
                continue
            last = position == len(self._fibers[number]) - 1
            self._at = (number + 1, 0) if last else (number, position + 1)
            item = {**self._fibers[number][position], "epoch": self._epoch}
            self._asked.append(item)
            await self.source.send(item)

    def _retire(self, item: dict[str, int]) -> None:
        if item["again"]:
            self._at = (self._oldest, 0)
            self._epoch ^= 1
        else:
            self._oldest += 1

    def _answer(self, answer: dict[str, Any]) -> None:
        expected = self._model.step(self._asked.popleft())
        known = [
            s if e is None else e for s, e in zip(answer["slot"], expected["slot"], strict=True)
        ]
        assert answer == {**expected, "slot": known}, f"answer {self.answers}"
        self.answers += 1
        self.stale += answer["stale"]


def random_fibers(rng: random.Random, kind: str) -> list[list[dict[str, Any]]]:
    """Return the lookups of fibers, one for each row-0 token."""
    fibers = []
    for _ in range(20):
        span = list(range(4))
        if kind == "crowded":
            span = rng.sample(range(CONFIG.window), 14)
        elif kind == "wide":
            span = [*rng.sample(range(3 * CONFIG.window), 12), 0xFFFF]
        elif kind == "bank":
            span = list(range(rng.randrange(BANKS), CONFIG.window, BANKS))[: CONFIG.slots]
        items = []
        for _ in range(rng.randint(1, 12)):
            blocks = sorted(rng.sample(span, 2))
            items.append(
                {
                    "count": rng.choice([0, 1, 2, 2, 2]),
                    "block": blocks,
                    "mask": [
                        rng.choice([1 << rng.randrange(LANES), rng.getrandbits(16) or 1])
                        for _ in blocks
                    ],
                    "end": 0,
                    "retire": 0,
                    "final": 0,
                }
            )
        items[-1] |= {"end": 1, "retire": 1}
        fibers.append(items)
    return fibers


@cocotb.test()
@cocotb.parametrize(
    traffic=[("few", 0.3), ("bank", 0.0), ("crowded", 0.0), ("crowded", 0.3), ("wide", 0.2)]
)
async def lookups(dut: Any, traffic: tuple[str, float]) -> None:
    """Every answer, and every request to the neighbours, in order."""
    await run(dut, *traffic, replayable=1)


@cocotb.test()
async def lost(dut: Any) -> None:
    """Without replays, dropped blocks are reported."""
    await run(dut, "crowded", 0.0, replayable=0)


async def run(dut: Any, kind: str, stall: float, *, replayable: int) -> None:
    """Run fibers of a kind."""
    rng = bench.rng()
    ports = Ports(dut, Table(CONFIG))
    model = Lookups(bool(replayable))
    fibers = random_fibers(rng, kind)
    leaf = Leaf(dut, fibers, model, stall)
    await bench.start(dut)
    ports["replayable"] = replayable
    cocotb.start_soon(leaf.send())

    entries: dict[Place, tuple[int, int]] = {}
    free = list(range(CONFIG.slots))
    rng.shuffle(free)
    waiting: list[int] = []  # slots freed one by one
    answers: list[tuple[int, int] | None] = [None] * PAIR
    writes: list[tuple[Place, int, int]] = []
    puts: list[Place] = []
    ends: list[tuple[int, bool]] = []
    shorts: list[tuple[int, int]] = []
    ended = freed = 0  # contexts
    bounded_in = -1
    bound = 0
    cycle = idle = 0
    while not leaf.done or idle < 20:
        idle = idle + 1 if leaf.done else 0
        if waiting and rng.random() < 0.7:
            free.append(waiting.pop())
        there = rng.choice([PAIR, PAIR, PAIR, 1, 0])
        some = min(there, len(free))
        ports["some"], ports["free"] = (1 << some) - 1, len(free)
        ports["slot"] = [free[n] if n < some else rng.randrange(CONFIG.slots) for n in range(PAIR)]
        ports["room"] = room = rng.random() < 0.9
        ports["refused"] = refused = rng.random() < stall / 2
        swept = min(CONFIG.fibers_in_flight, max(cycle - 30, 0) // 20)
        low_swept = cycle >= 20
        ports["swept"], ports["low_swept"] = swept, low_swept
        # the oldest context is drained eventually
        if freed < ended and not waiting and rng.random() < 0.2:
            old = freed % CONFIG.fibers_in_flight
            gone = [place for place in entries if place[0] == old]
            waiting += [entries.pop(place)[1] for place in gone]
            freed += 1
        ports["freed"] = freed % POINTERS
        settled = freed == ended and not waiting and bounded_in < 0 and rng.random() < 0.7
        ports["settled"] = settled
        ports["bounded"] = bounded = bounded_in == 0
        ports.noise("bound", rng)
        if bounded:
            ports["bound"] = bound
        ports["entry"] = [
            {"touched": rng.getrandbits(LANES), "slot": rng.randrange(CONFIG.slots)}
            if answer is None
            else {"touched": answer[0], "slot": answer[1]}
            for answer in answers
        ]
        await RisingEdge(dut.clk)
        cycle += 1
        # reads and writes: a read does not see a write of its own cycle
        advance = ports["advance"]
        assert not (advance and refused)
        answers = [None] * PAIR
        for name in ("read", "write"):
            banks = [port["place"]["bank"] for port in ports[name] if port["enable"]]
            assert len(set(banks)) == len(banks), f"{name}: two accesses to one bank"
        for n, read in enumerate(ports["read"]):
            if read["enable"] and advance:
                place = place_of(read)
                # unswept words are undefined; stale lookups may read them
                known = place[0] < swept or (low_swept and place[1] < LOW_WORDS)
                touched = 0 if known else rng.getrandbits(LANES)
                answers[n] = entries.get(place, (touched, rng.randrange(CONFIG.slots)))
        for write in ports["write"]:
            if write["enable"]:
                entry = (write["entry"]["touched"], write["entry"]["slot"])
                entries[place_of(write)] = entry
                writes.append((place_of(write), *entry))
        # slots
        take = ports["take"]
        assert take <= some
        model.slots.extend(free[:take])
        del free[:take]
        for put in ports["put"]:
            if put["enable"]:
                assert room
                puts.append(place_of(put))
        # slots that run out
        bounded_in -= bounded_in >= 0
        if ports["short"] and bounded_in < 0 and not bounded:
            candidate = ports["candidate"]
            assert ports["context"] == ended % POINTERS
            shorts.append((ended, candidate))
            here = ended % CONFIG.fibers_in_flight
            held = sorted(word * BANKS + bank for of, word, bank in entries if of == here)
            stay = give_way(held, candidate)
            bound = [*held, candidate][stay]
            waiting += [entries.pop((here, *divmod(block, BANKS)))[1] for block in held[stay:]]
            bounded_in = rng.randrange(4)
        if ports["ended"]:
            assert ports["context"] == ended % POINTERS
            ends.append((ports["base"], bool(ports["again"])))
            ended += 1
        assert cycle < 20_000
    assert writes == model.writes and len(writes) > 50
    assert puts == model.puts and len(puts) > 50
    assert shorts == model.shorts
    assert ends == model.ends
    assert leaf.retired.received == model.retired
    assert ports["error"] == model.error == (not replayable)
    assert (len(shorts) > 5) == (kind == "crowded")
    assert (leaf.stale > 0) == (replayable and kind in ("crowded", "wide"))
    assert len(model.slots) == 0


def place_of(port: dict[str, Any]) -> Place:
    """Return the place that a port names."""
    place = port["place"]
    return place["context"], place["word"], place["bank"]
