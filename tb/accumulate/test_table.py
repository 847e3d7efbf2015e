"""`Table` between models of its neighbours, against lookups done one after the other."""

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.hashing import OVERFLOW
from loopnest_hw.accumulate.place import BANKS, TABLES, WAYS, set_bits
from loopnest_hw.accumulate.table import RETIRED, Table
from loopnest_hw.config import LANES, PAIR, make_config
from loopnest_hw.tokens import found, lookup
from loopnest_sim.model.accumulate import give_way
from tb.accumulate.colliding import colliding_blocks
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports
from tb.streams import Sink, Source

CONFIG = make_config("shrunk", slots=12, fibers_in_flight=4)
SETS = 1 << set_bits(CONFIG)
POINTERS = 2 * CONFIG.fibers_in_flight

Place = tuple[int, int]
"""Context and block."""

Where = tuple[int, int, int]
"""Table, way and set."""


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
    """Lanes and slot of each block of the pass."""
    dropped: set[int] = field(default_factory=set)
    slots: deque[int] = field(default_factory=deque)
    """The slots that the unit took, in order."""
    writes: list[tuple[Place, int, int]] = field(default_factory=list)
    puts: list[Place] = field(default_factory=list)
    shorts: list[tuple[int, int]] = field(default_factory=list)
    """Contexts and blocks for which slots ran out."""
    ends: list[tuple[bool, bool]] = field(default_factory=list)
    """Of each pass, whether its fiber has no blocks, and whether it continues in a further one."""
    begun: bool = False
    """The fiber has had a lookup."""
    retired: list[dict[str, int]] = field(default_factory=list)

    def step(self, item: dict[str, Any]) -> dict[str, Any]:
        """Execute a lookup; return its answer, with ``slot`` None for a block that is not kept."""
        answer: dict[str, Any] = {"keep": 0, "slot": [None] * PAIR, "first": [0] * PAIR}
        if item["epoch"] != self.epoch:
            return {**answer, "stale": 1}
        blocks = item["block"][: item["count"]]
        keep = [block >= self.lower for block in blocks]
        self._make_room(blocks, keep)
        place = self.context % CONFIG.fibers_in_flight
        for n, block in enumerate(blocks):
            if keep[n]:
                mask = item["mask"][n]
                new = block not in self.held
                touched, slot = (0, self.slots.popleft()) if new else self.held[block]
                self.held[block] = (touched | mask, slot)
                if new:
                    self.puts.append((place, block))
                if mask & ~touched:
                    self.writes.append(((place, block), touched | mask, slot))
                answer["keep"] |= 1 << n
                answer["slot"][n] = slot
                answer["first"][n] = mask & ~touched
        again = bool(item["end"] and self.dropped and self.replayable)
        if item["retire"] or again:
            self.retired.append({"again": int(again)})
        if item["end"]:
            self._end(again, bare=not blocks and not self.begun)
        self.begun = not item["end"]
        return {**answer, "stale": 0}

    def _make_room(self, blocks: list[int], keep: list[bool]) -> None:
        """Evict blocks until the new ones have slots; drop those above."""
        while True:
            for n, block in enumerate(blocks):
                if keep[n] and self.upper is not None and block >= self.upper:
                    keep[n] = False
                    self.dropped.add(block)
            new = [block for n, block in enumerate(blocks) if keep[n] and block not in self.held]
            free = CONFIG.slots - len(self.held)
            if len(new) <= free:
                return
            self.shorts.append((self.context, new[free]))
            held = sorted(self.held)
            stay = give_way(held, new[free], CONFIG.evicted_slots)
            self.upper = [*held, new[free]][stay]
            self.dropped.add(self.upper)
            for block in held[stay:]:
                del self.held[block]

    def _end(self, again: bool, bare: bool) -> None:
        """End the pass."""
        self.ends.append((bare, again))
        self.error |= bool(self.dropped) and not again
        self.lower = min(self.dropped) if again else 0
        self.epoch ^= again
        self.upper = None
        self.held.clear()
        self.dropped.clear()
        self.context += not bare


@dataclass
class Tags:
    """The tables' memories: each tag's place and entry."""

    at: dict[Where, tuple[Place, tuple[int, int]]] = field(default_factory=dict)
    where: dict[Place, Where] = field(default_factory=dict)
    displaced: set[Place] = field(default_factory=set)
    overflow: int = 0
    read: list[dict[Where, tuple[Place, tuple[int, int]]]] = field(default_factory=lambda: [{}, {}])
    """What the sets that were read last held, by port."""
    sets: list[list[int]] = field(default_factory=lambda: [[0] * TABLES, [0] * TABLES])

    def match(self, port: int, key: Place) -> dict[str, Any]:
        """Return what the sets that the port has read hold of the key."""
        match = {"hit": 0, "free": 0, "entry": {"touched": 0, "slot": 0}}
        for number in range(TABLES * WAYS):
            table, way = divmod(number, WAYS)
            tag = self.read[port].get((table, way, self.sets[port][table]))
            match["free"] |= (tag is None) << number  # type: ignore[operator]
            if tag is not None and tag[0] == key:
                match["hit"] |= 1 << number  # type: ignore[operator]
                match["entry"] = dict(zip(("touched", "slot"), tag[1], strict=True))
        return match

    def write(self, place: Place, where: Where, entry: tuple[int, int], *, insert: bool) -> None:
        """Write an entry: of a new tag at a free position, or of one that is there."""
        if insert:
            assert where not in self.at and place not in self.where
            self.where[place] = where
        assert self.where[place] == where
        self.at[where] = (place, entry)

    def pop(self, place: Place) -> int:
        """Remove a tag; return its slot."""
        self.displaced.discard(place)
        return self.at.pop(self.where.pop(place))[1][1]


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
    # blocks that are in the same sets as long as the context is
    colliding = colliding_blocks(CONFIG)
    for _ in range(200 if kind == "bare" else 20):
        span, length = list(range(4)), 12
        if kind == "crowded":
            span, length = rng.sample(range(256), 24), 24
        elif kind == "wide":
            span = [*rng.sample(range(1 << 16), 10), 0xFFFF]
        elif kind == "collide":
            span, length = rng.sample(colliding, CONFIG.slots), 24
        elif kind == "bare":
            length = rng.choice([1, 1, 1, 4])
        items = []
        for _ in range(rng.randint(1, length)):
            blocks = sorted(rng.sample(span, 2))
            items.append(
                {
                    "count": rng.choice([0, 0, 0, 1, 2] if kind == "bare" else [0, 1, 2, 2, 2]),
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
    traffic=[
        ("few", 0.3),
        ("bare", 0.0),
        ("bare", 0.3),
        ("collide", 0.0),
        ("collide", 0.3),
        ("crowded", 0.0),
        ("crowded", 0.3),
        ("wide", 0.2),
    ]
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

    tags = Tags()
    free = list(range(CONFIG.slots))
    rng.shuffle(free)
    waiting: list[int] = []  # slots freed one by one
    writes: list[tuple[Place, int, int]] = []
    puts: list[Place] = []
    ends: list[tuple[bool, bool]] = []
    shorts: list[tuple[int, int]] = []
    ended = freed = 0  # contexts
    bounded_in = -1
    bound = 0
    cycle = idle = displaced_at_once = updates = 0
    while not leaf.done or idle < 20:
        idle = idle + 1 if leaf.done else 0
        if waiting and rng.random() < 0.7:
            free.append(waiting.pop())
        there = rng.choice([PAIR, PAIR, PAIR, 1, 0])
        some = min(there, len(free))
        ports["some"], ports["free"] = (1 << some) - 1, len(free)
        ports["slot"] = [free[n] if n < some else rng.randrange(CONFIG.slots) for n in range(PAIR)]
        ports["room"] = room = rng.random() < 0.9
        ports["swept"] = swept = cycle > 20
        ports["ends_room"] = rng.random() < 0.9
        # the oldest context is drained eventually
        if freed < ended and not waiting and rng.random() < 0.2:
            old = freed % CONFIG.fibers_in_flight
            waiting += [tags.pop(place) for place in list(tags.where) if place[0] == old]
            freed += 1
        ports["freed"] = freed % POINTERS
        settled = freed == ended and not waiting and bounded_in < 0 and rng.random() < 0.7
        ports["settled"] = settled
        ports["bounded"] = bounded = bounded_in == 0
        ports.noise("bound", rng)
        if bounded:
            ports["bound"] = {"bank": bound % BANKS, "word": bound // BANKS}
        ports["overflow"] = tags.overflow
        await FallingEdge(dut.clk)
        ports["match"] = [tags.match(n, place_of(ports["key"][n])) for n in range(PAIR)]
        await RisingEdge(dut.clk)
        cycle += 1
        # reads and writes: a read does not see a write of its own cycle
        for n, read in enumerate(ports["read"]):
            if read["enable"]:
                tags.read[n], tags.sets[n] = dict(tags.at), read["at"]
        ways = [
            (write["where"]["table"], write["where"]["way"])
            for write in ports["write"]
            if write["enable"]
        ]
        update = ports["update"]
        if update["enable"]:
            at = update["where"]
            ways.append((at["table"], at["way"]))
            where = (at["table"], at["way"], at["set"])
            place, (_, slot) = tags.at[where]
            tags.at[where] = (place, (update["touched"], slot))
            writes.append((place, update["touched"], slot))
            updates += 1
        assert len(set(ways)) == len(ways), "two writes to one way"
        assert swept or not ways
        for write in ports["write"]:
            if write["enable"]:
                place, at = place_of(write["place"]), write["where"]
                entry = (write["entry"]["touched"], write["entry"]["slot"])
                where = (at["table"], at["way"], at["set"])
                tags.write(place, where, entry, insert=bool(write["insert"]))
                if write["insert"] and write["displaced"]:
                    tags.displaced.add(place)
                writes.append((place, *entry))
        displaced_at_once = max(displaced_at_once, len(tags.displaced))
        if not tags.displaced and not ports["searching"]:
            tags.overflow = 0
        if ports["mark"]:
            tags.overflow |= 1 << ports["mark_set"] % OVERFLOW
        # slots
        take = ports["take"]
        assert take <= some
        model.slots.extend(free[:take])
        del free[:take]
        for put in ports["put"]:
            if put["enable"]:
                assert room
                puts.append(place_of(put["place"]))
        # slots that run out
        bounded_in -= bounded_in >= 0
        candidate = ports["candidate"]["word"] * BANKS + ports["candidate"]["bank"]
        if ports["short"] and bounded_in >= 0:
            assert candidate == shorts[-1][1]
        elif ports["short"] and not bounded:
            assert ports["context"] == ended % POINTERS
            shorts.append((ended, candidate))
            here = ended % CONFIG.fibers_in_flight
            held = sorted(block for of, block in tags.where if of == here)
            stay = give_way(held, candidate, CONFIG.evicted_slots)
            bound = [*held, candidate][stay]
            waiting += [tags.pop((here, block)) for block in held[stay:]]
            bounded_in = rng.randrange(4)
        if ports["ended"]:
            assert ports["context"] == ended % POINTERS
            bare = bool(ports["bare"])
            ends.append((bare, bool(ports["again"])))
            ended += not bare
        assert cycle < 20_000
    # updates can be late, and one that is followed by another of the same entry is left out
    assert not Counter(writes) - Counter(model.writes) and len(writes) > 50
    assert len(model.writes) - len(writes) <= updates + len(writes) / 20
    assert puts == model.puts and len(puts) > 50
    assert shorts == model.shorts
    assert ends == model.ends
    assert leaf.retired.received == model.retired
    assert ports["error"] == model.error == (not replayable)
    assert (len(shorts) > 5) == (kind == "crowded")
    assert (leaf.stale > 0) == (replayable and kind == "crowded")
    assert displaced_at_once > 2 or kind != "collide"
    assert len(model.slots) == 0


def place_of(place: dict[str, int]) -> Place:
    """Return the place that the layout names."""
    return place["context"], place["word"] * BANKS + place["bank"]
