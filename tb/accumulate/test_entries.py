"""`Entries` against a dictionary of entries."""

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.entries import LOW_WORDS, PATIENCE, Entries
from loopnest_hw.accumulate.place import BANKS
from loopnest_hw.config import LANES, make_config
from loopnest_hw.tokens import PAIR
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CONFIG = make_config("shrunk", window=256, fibers_in_flight=4)
WORDS = CONFIG.window // BANKS
CONTEXTS = CONFIG.fibers_in_flight
ROUNDS = 8
CYCLES = 400
LAST_CYCLES = 2_000
SPELL = 25
"""Cycles in which the lookups use only a few banks."""

WRITTEN = 2
"""Cycles from a lookup's read to its write."""

SWEPT = 2 * WORDS * CONTEXTS
"""Cycle by which everything has been swept, despite all other accesses."""

Place = tuple[int, int, int]
"""Context, word and bank."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_entries(simulator: str) -> None:
    run_bench(Entries(CONFIG), module=__name__, simulator=simulator)


def layout(place: Place) -> dict[str, int]:
    """Return a place as the layout has it."""
    context, word, bank = place
    return {"context": context, "word": word, "bank": bank}


@dataclass
class Walk:
    """A place to walk, with or without a second bank of its word; or none."""

    place: Place
    context: int
    second: int | None = None
    none: bool = False
    closes: bool = False
    evicts: bool = False


@dataclass
class Traffic:
    """Contexts that are filled by lookups, walked by the drain, and filled again."""

    rng: random.Random
    entries: dict[Place, dict[str, int]] = field(default_factory=dict)
    closing: set[int] = field(default_factory=set)
    """Contexts that are being walked, until they are closed."""
    walks: deque[Walk] = field(default_factory=deque)
    """Places to walk that have not been sent to the unit yet."""
    gone: set[Place] = field(default_factory=set)
    """Evicted places: they are not looked up before the context is closed."""

    def usable(self, context: int, word: int, swept: int, low_swept: bool) -> bool:
        """Return whether a lookup may read this word."""
        return context not in self.closing and (context < swept or (low_swept and word < LOW_WORDS))

    def lookup(self, swept: int, low_swept: bool, banks: list[int]) -> list[Place | None]:
        """Return up to two places in different ones of the banks that may be looked up."""
        places: list[Place | None] = []
        for _ in range(PAIR):
            context, word = self.rng.randrange(CONTEXTS), self.rng.choice([0, 3, 4, 5])
            place = (context, word, self.rng.choice(banks))
            ok = self.usable(context, word, swept, low_swept) and place not in self.gone
            ok &= all(other is None or other[2] != place[2] for other in places)
            places.append(place if ok and self.rng.random() < 0.9 else None)
        return places

    def plan(self, busy: set[int]) -> None:
        """Begin the drain of a context that is not busy, or an eviction from it."""
        free = [c for c in range(CONTEXTS) if c not in self.closing | busy]
        if not free:
            return
        context = self.rng.choice(free)
        held = sorted(p for p in self.entries if p[0] == context and p not in self.gone)
        if held and self.rng.random() < 0.2:
            taken = held[-1]
            self.gone.add(taken)
            self.walks.append(Walk(taken, context, evicts=True))
            return
        self.closing.add(context)
        pairs = self.rng.random() < 0.8
        left = deque(held)
        while left:
            place = left.popleft()
            second = left.popleft()[2] if pairs and left and left[0][1] == place[1] else None
            self.walks.append(Walk(place, context, second, closes=not left))
        if not held:
            anywhere = (self.rng.randrange(CONTEXTS), 0, self.rng.randrange(BANKS))
            self.walks.append(Walk(anywhere, context, none=True, closes=True))


@cocotb.test()
async def lookups_and_walks(dut: Any) -> None:
    """Both readers read what was written, or 0 after a clear; neither waits long. A reset does not
    clear the memory.
    """
    ports = Ports(dut, Entries(CONFIG))
    await bench.start(dut)
    seen: Counter[str] = Counter()
    for n in range(ROUNDS):
        await run_round(dut, ports, bench.rng(), seen, pace=(0.6, 1.0)[n % 2])
        dut.rst.value = 1
        await RisingEdge(dut.clk)
        dut.rst.value = 0
    dut._log.info("%s", seen)
    assert (
        min(seen[what] for what in ("looked", "walked", "closed", "pairs")) > ROUNDS * CYCLES / 20
    )
    assert min(seen[what] for what in ("refused", "clash", "quick")) > 10


@cocotb.test()
@cocotb.parametrize(hurry=[0, 1])
async def lookups_that_never_end(dut: Any, hurry: int) -> None:
    """A walk waits for lookups of its bank for a bounded time, or not at all with ``hurry``."""
    ports = Ports(dut, Entries(CONFIG))
    await bench.start(dut)
    bank = 7
    ports["read"] = [{"enable": n, "place": {"bank": bank}} for n in range(PAIR)]
    ports["walk__valid"] = ports["room"] = 1
    ports["walk__payload"] = {"place": {"bank": bank}}
    ports["hurry"] = hurry
    walks = []
    for cycle in range(60):
        await FallingEdge(dut.clk)
        ports["advance"] = not ports["refused"]
        await RisingEdge(dut.clk)
        if ports["walked"]:
            walks.append(cycle)
    distances = {after - before for before, after in pairwise(walks)}
    assert distances == {1 if hurry else PATIENCE + 1}


async def run_round(
    dut: Any, ports: Ports, rng: random.Random, seen: Counter[str], pace: float
) -> None:
    """Drive and check the unit from its reset on."""
    traffic = Traffic(rng)
    entries: dict[Place, dict[str, int]] = traffic.entries
    inside: deque[Walk] = deque()  # in the unit, not read yet
    closes: deque[int] = deque()  # contexts that were walked and are not closed yet
    found: list[dict[str, int] | None] = [None, None]
    walked: list[dict[str, int]] = []
    offered: Walk | None = None
    pending: list[Place | None] = [None, None]  # the data of the waiting lookup
    # a lookup writes some cycles after its read
    writes: deque[list[tuple[Place, dict[str, int]]]] = deque([[]] * WRITTEN)
    late = swept = 0
    low_swept = False
    empty = {"touched": 0, "slot": None}
    banks = [0]
    # finally the whole memory is read
    everywhere = [
        [(context, word, bank), (context, word, bank + 1)]
        for context in range(CONTEXTS)
        for word in range(WORDS)
        for bank in range(0, BANKS, PAIR)
    ]
    rng.shuffle(everywhere)
    for cycle in range(CYCLES + LAST_CYCLES):
        if not everywhere and not any(pending):
            break
        written = writes.popleft()
        if cycle % SPELL == 0:
            banks = rng.sample(range(BANKS), rng.choice([2, 3]))
        if not any(pending) and cycle >= CYCLES:
            pending = [place if place not in traffic.gone else None for place in everywhere.pop()]
        elif not any(pending) and rng.random() < pace:
            pending = traffic.lookup(swept, low_swept, banks)
        usable = [p for p in pending if p is not None and p[0] not in traffic.closing]
        reads = [
            {"enable": p in usable, "place": layout(p or (0, rng.randrange(WORDS), 5))}
            for p in pending
        ]
        ports["read"] = reads
        ports["write"] = [
            {
                "enable": n < len(written),
                "place": layout(
                    written[n][0] if n < len(written) else (1, 1, rng.randrange(BANKS))
                ),
                "entry": written[n][1] if n < len(written) else {"touched": rng.getrandbits(LANES)},
            }
            for n in range(PAIR)
        ]
        if offered is None:
            often = 0.5 if cycle < SWEPT else 0.1
            if not traffic.walks and cycle < CYCLES and rng.random() < often:
                # what is read or written now stays as it is
                busy = {place[0] for pair in (written, *writes) for place, _ in pair}
                traffic.plan(busy | {place[0] for place in pending if place})
            if traffic.walks and rng.random() < 0.8:
                offered = traffic.walks.popleft()
        ports["walk__valid"] = offered is not None
        ports.noise("walk__payload", rng)
        if offered is not None:
            ports["walk__payload"] = {
                "place": layout(offered.place),
                "second": rng.randrange(BANKS) if offered.second is None else offered.second,
                "pair": offered.second is not None,
                "none": offered.none,
                "closes": offered.closes,
                "evicts": offered.evicts,
            }
        room, hurry = rng.random() < 0.9, cycle // 100 % 2
        ports["room"], ports["hurry"] = room, hurry
        await FallingEdge(dut.clk)
        refused = bool(ports["refused"])
        seen["refused"] += refused
        advance = not refused and rng.random() < max(pace, 0.9)
        ports["advance"] = advance

        await RisingEdge(dut.clk)
        swept, low_swept = ports["swept"], bool(ports["low_swept"])
        assert cycle < SWEPT or (swept == CONTEXTS and low_swept)
        for n, entry in enumerate(found):
            if entry is not None:
                got = ports["entry"][n]
                assert got["touched"] == entry["touched"], f"cycle {cycle}: {got}"
                assert not entry["touched"] or got == entry, f"cycle {cycle}: {got}"
        assert ports["walk_entry"][: len(walked)] == walked, f"cycle {cycle}"
        if ports["closed"]:
            context = closes.popleft()
            traffic.closing.remove(context)
            traffic.gone = {place for place in traffic.gone if place[0] != context}
            seen["closed"] += 1

        found = [None, None]
        walked = []
        if advance:
            for n, place in enumerate(pending):
                if reads[n]["enable"] and place is not None:
                    found[n] = dict(entries.get(place, empty))  # type: ignore[arg-type]
                    seen["looked"] += 1
        goes = bool(ports["walked"])
        # The first walk is read at once, if its data can be taken and no lookup uses its bank.
        first = inside[0] if inside else None
        assert first is not None or not goes
        if first is not None:
            clash = not first.none and any(
                read["enable"] and read["place"]["bank"] in (first.place[2], first.second)
                for read in reads
            )
            assert not goes or (room and not (clash and advance))
            assert not refused or room
            assert not refused or late >= PATIENCE or (clash and hurry and goes)
            wants = room and not goes
            late = late + 1 if wants else 0 if goes else late
            seen["clash"] += clash
            assert late <= PATIENCE + 3, f"cycle {cycle}: a walk waits"
            if clash and hurry and room:
                seen["quick"] += goes
        assert first is not None or not refused
        if goes:
            first = inside.popleft()
            assert ports["evicts"] == first.evicts
            if not first.none:
                walked = [entries.pop(first.place)]
            if first.second is not None:
                walked.append(entries.pop((*first.place[:2], first.second)))
                seen["pairs"] += 1
            if first.closes:
                closes.append(first.context)
            seen["walked"] += 1
        if offered is not None and ports["walk__ready"]:
            inside.append(offered)
            offered = None

        entries |= dict(written)
        writes.append([])
        if advance:
            for n, place in enumerate(pending):
                if reads[n]["enable"] and place is not None and rng.random() < 0.6:
                    entry = {
                        "touched": rng.getrandbits(LANES) | 1 << rng.randrange(LANES),
                        "slot": rng.randrange(CONFIG.slots),
                    }
                    writes[-1].append((place, entry))
            pending = [None, None]
    else:
        raise AssertionError("not all of the memory was looked at")
