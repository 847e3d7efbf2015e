"""`Entries` against a dictionary of entries."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.entries import Entries
from loopnest_hw.accumulate.hashing import OVERFLOW, set_of
from loopnest_hw.accumulate.place import (
    BANK_BITS,
    BANKS,
    TABLES,
    WAYS,
    WORD_BITS,
    context_bits,
    set_bits,
)
from loopnest_hw.config import LANES, PAIR, make_config
from tb.accumulate.colliding import colliding_blocks
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CONFIG = make_config("shrunk", slots=40, fibers_in_flight=4)
CONTEXTS = CONFIG.fibers_in_flight
BITS = set_bits(CONFIG)
SETS = 1 << BITS
CYCLES = 2400

Place = tuple[int, int]
"""Context and block."""

Where = tuple[int, int, int]
"""Table, way and set."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_entries(simulator: str) -> None:
    run_bench(Entries(CONFIG), module=__name__, simulator=simulator)


def layout(place: Place) -> dict[str, int]:
    """Return a place as the layout has it."""
    context, block = place
    return {"context": context, "word": block // BANKS, "bank": block % BANKS}


def sets_of(place: Place) -> list[int]:
    """Return the place's sets."""
    context, block = place
    key = block | context << BANK_BITS + WORD_BITS
    inputs = BANK_BITS + WORD_BITS + context_bits(CONFIG)
    return [set_of(key, inputs, BITS, table) for table in range(TABLES)]


@dataclass
class Tags:
    """What the tables hold."""

    at: dict[Where, Place] = field(default_factory=dict)
    entries: dict[Place, dict[str, int]] = field(default_factory=dict)
    where: dict[Place, Where] = field(default_factory=dict)
    leaving: dict[Where, Place] = field(default_factory=dict)
    """Tags that were walked, and may not be cleared yet."""

    def displaced(self, place: Place) -> bool:
        """Return whether the tag is not in one of the place's sets."""
        table, _, set_ = self.where[place]
        return sets_of(place)[table] != set_


async def sweep(dut: Any, ports: Ports) -> None:
    """Clear the tables."""
    for set_ in range(SETS):
        await FallingEdge(dut.clk)
        ports["sweep"], ports["sweep_set"] = 1, set_
    await FallingEdge(dut.clk)
    ports["sweep"] = 0


@cocotb.test()
@cocotb.parametrize(kind=["random", "collide"], stall=[0.0, 0.3])
async def lookups_and_walks(dut: Any, kind: str, stall: float) -> None:
    """Both readers find every entry, wherever its tag is; what was walked is cleared."""
    rng = bench.rng()
    ports = Ports(dut, Entries(CONFIG))
    await bench.start(dut)
    await sweep(dut, ports)
    tags = Tags()
    seen: Counter[str] = Counter()
    spans = {
        context: [rng.randrange(1 << 16) for _ in range(30)]
        if kind == "random"
        else colliding_blocks(CONFIG, context, 0)[:24]
        for context in range(CONTEXTS)
    }
    reading: list[tuple[Place, list[int]] | None] = [None] * PAIR
    writes: list[dict[str, Any]] = []
    last: list[dict[str, Any]] = []
    walks: deque[tuple[list[Place], dict[str, Any]]] = deque()
    inside: deque[tuple[list[Place], dict[str, Any]]] = deque()
    closing: deque[int] = deque()
    walked_contexts: set[int] = set()
    offered = cleared = None
    late = 0
    cycles = bench.count(CYCLES)
    for cycle in range(cycles):
        await FallingEdge(dut.clk)
        # what is written was decided in the last cycle
        whole = writes
        # one that is not new may be an update
        ports["update"] = {"enable": 0}
        if writes and not writes[0]["insert"] and rng.random() < 0.5:
            first = writes[0]
            touched = first["entry"]["touched"]
            ports["update"] = {"enable": 1, "where": first["where"], "touched": touched}
            whole = writes[1:]
            seen["late"] += 1
        ports["write"] = [
            {name: value for name, value in write.items() if not name.startswith("_")}
            for write in [*whole, *[{"enable": 0}] * (PAIR - len(whole))]
        ]
        for write in writes:
            place, where, entry = write["_place"], write["_where"], write["entry"]
            tags.at[where], tags.where[place], tags.entries[place] = place, where, entry
        # a read does not see the writes of its own cycle
        fresh, writes, last = [*writes, *last], [], writes
        displaced = sum(map(tags.displaced, tags.where))
        # read two places: of a context that is not walked
        new_reads: list[tuple[Place, list[int]] | None] = []
        free_contexts = [c for c in range(CONTEXTS) if c not in walked_contexts]
        for _ in range(PAIR):
            if not free_contexts or rng.random() < 0.1:
                new_reads.append(None)
                continue
            context = rng.choice(free_contexts)
            place = (context, rng.choice(spans[context]))
            at = sets_of(place)
            if place in tags.where and rng.random() < 0.8:
                # where a search would find it
                table, _, set_ = tags.where[place]
                at = [(a + set_ - at[table]) % SETS for a in at]
            elif rng.random() < 0.3:
                step = rng.randrange(3)
                at = [(a + step) % SETS for a in at]
            new_reads.append((place, at))
        ports["read"] = [
            {"enable": 0} if read is None else {"enable": 1, "at": read[1]} for read in new_reads
        ]
        ports["key"] = [
            layout((0, rng.randrange(1 << 16))) if read is None else layout(read[0])
            for read in reading
        ]
        ports["searching"] = 1
        ports["mark"] = 0
        # a walk
        if offered is None and not walks and rng.random() < 0.2:
            full = [c for c in free_contexts if any(p[0] == c for p in tags.where)]
            busy = {read[0][0] for read in (*reading, *new_reads) if read is not None}
            busy |= {write["_place"][0] for write in fresh}
            full = [c for c in full if c not in busy]
            if full:
                context = rng.choice(full)
                walked_contexts.add(context)
                left = sorted(p for p in tags.where if p[0] == context)
                while left:
                    two = [left.pop(0)]
                    if left and left[0][1] // BANKS == two[0][1] // BANKS:
                        two.append(left.pop(0))
                    walk = {
                        "place": layout(two[0]),
                        "second": two[-1][1] % BANKS if len(two) == PAIR else rng.randrange(BANKS),
                        "pair": len(two) == PAIR,
                        "none": 0,
                        "closes": not left,
                        "evicts": rng.getrandbits(1),
                    }
                    walks.append((two, walk))
                    if rng.random() < 0.3:
                        # a fiber without blocks: nothing is cleared, whatever the place
                        some = layout(rng.choice(list(tags.where)))
                        none = {"place": some, "none": 1, "pair": 0, "closes": 0, "evicts": 0}
                        walks.append(([], {**walk, **none}))
        if offered is None and walks and rng.random() >= stall:
            offered = walks.popleft()
        ports["walk__valid"] = offered is not None
        ports.noise("walk__payload", rng)
        if offered is not None:
            ports["walk__payload"] = offered[1]
        ports["room"] = room = rng.random() >= stall
        await RisingEdge(dut.clk)
        # the lookups
        taken: set[tuple[int, int]] = set()
        for n, read in enumerate(reading):
            if read is None:
                continue
            place, at = read
            match = ports["match"][n]
            if place in {write["_place"] for write in fresh}:
                continue
            hits = [
                (way, table)
                for table in range(TABLES)
                for way in range(WAYS)
                if match["hit"] >> (table * WAYS + way) & 1
            ]
            where = tags.where.get(place)
            if where is not None and at[where[0]] == where[2]:
                assert hits == [(where[1], where[0])], f"cycle {cycle}: {place}"
                assert match["entry"] == tags.entries[place]
                seen["hit"] += 1
                seen["displaced"] += tags.displaced(place)
            else:
                assert not hits, f"cycle {cycle}: {place}"
            if place[0] in walked_contexts:
                continue
            room_left = len(tags.where) + len(writes) < CONFIG.slots
            for number in rng.sample(range(TABLES * WAYS), TABLES * WAYS):
                table, way = divmod(number, WAYS)
                position = (table, way, at[table])
                is_free = bool(match["free"] >> number & 1)
                just = position in {write["_where"] for write in fresh}
                if position in tags.leaving:
                    if is_free:
                        del tags.leaving[position]
                elif not just:
                    assert is_free == (position not in tags.at)
                if (table, way) in taken or just:
                    continue
                insert = is_free and where is None and room_left
                update = where == position and not is_free
                if (insert or update) and not any(w["_place"] == place for w in writes):
                    entry = {
                        "touched": rng.getrandbits(LANES) | 1,
                        "slot": rng.randrange(CONFIG.slots)
                        if insert
                        else tags.entries[place]["slot"],
                    }
                    writes.append(
                        {
                            "enable": 1,
                            "insert": int(insert),
                            "displaced": int(at[table] != sets_of(place)[table]),
                            "where": {"way": way, "table": table, "set": at[table]},
                            "place": layout(place),
                            "entry": entry,
                            "_place": place,
                            "_where": position,
                        }
                    )
                    taken.add((table, way))
                    seen["insert" if insert else "update"] += 1
        # the walk
        late = late + 1 if inside and room else 0
        assert late < 3 * SETS
        # a read in the cycle in which the last tag is cleared still sees it
        tags.leaving = {w: p for w, p in tags.leaving.items() if p[0] != cleared}
        cleared = None
        if ports["closed"]:
            cleared = closing.popleft()
            walked_contexts.remove(cleared)
            seen["closed"] += 1
        if ports["walked"]:
            assert room
            late = 0
            two, walk = inside.popleft()
            assert ports["evicts"] == walk["evicts"]
            for n, place in enumerate(two):
                assert ports["walk_entry"][n] == tags.entries.pop(place)
                where = tags.where.pop(place)
                tags.leaving[where] = tags.at.pop(where)
            seen["walked" if two else "none"] += 1
            if walk["closes"]:
                closing.append(two[0][0])
        if offered is not None and ports["walk__ready"]:
            inside.append(offered)
            offered = None
        seen["displaced tags"] = max(seen["displaced tags"], displaced)
        reading = new_reads
    dut._log.info("%s", seen)
    least = min(
        seen[what] for what in ("hit", "insert", "update", "late", "walked", "none", "closed")
    )
    assert least > cycles / 100
    assert seen["displaced"] > 0 and seen["displaced tags"] > 3


@cocotb.test()
async def overflow(dut: Any) -> None:
    """Bits are set by marks, and cleared when the last displaced tag is gone and no search runs."""
    rng = bench.rng()
    ports = Ports(dut, Entries(CONFIG))
    await bench.start(dut)
    await sweep(dut, ports)
    for _ in range(20):
        ports["searching"] = 1
        marks = {rng.randrange(SETS) for _ in range(3)}
        for mark in marks:
            await FallingEdge(dut.clk)
            ports["mark"], ports["mark_set"] = 1, mark
        await FallingEdge(dut.clk)
        ports["mark"] = 0
        bits = 0
        for mark in marks:
            bits |= 1 << mark % OVERFLOW
        assert ports["overflow"] == bits
        # two tags, one of them displaced
        places = [(0, rng.randrange(100)), (0, rng.randrange(100, 200))]
        writes = []
        for n, place in enumerate(places):
            where = {"way": n, "table": 0, "set": (sets_of(place)[0] + n) % SETS}
            entry = {"touched": 1 << n, "slot": n}
            writes.append(
                {
                    "enable": 1,
                    "insert": 1,
                    "displaced": n,
                    "where": where,
                    "place": layout(place),
                    "entry": entry,
                }
            )
        ports["write"] = writes
        await FallingEdge(dut.clk)
        ports["write"] = [{"enable": 0}] * PAIR
        ports["searching"] = 0
        for n in range(PAIR):
            for _ in range(rng.randrange(5)):
                await FallingEdge(dut.clk)
                assert ports["overflow"] == bits
            ports["walk__valid"] = ports["room"] = 1
            ports["walk__payload"] = {"place": layout(places[n]), "closes": 1}
            await FallingEdge(dut.clk)
            ports["walk__valid"] = 0
            while not ports["walked"]:
                await FallingEdge(dut.clk)
            await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        assert ports["overflow"] == 0
