"""`Drain` between models of the directory, the table, the lane banks and the fill."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.drain import PATIENCE, Drain
from loopnest_hw.accumulate.place import BANKS, WORD_BITS
from loopnest_hw.config import LANES, PAIR, make_config
from loopnest_hw.tokens import RESULT_BLOCK, StageState
from loopnest_sim.model.skew import banks, skew
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports
from tb.result.items import NO_BLOCK, apart, joined, joins
from tb.streams import Sink

CONFIG = make_config("shrunk", "int8", fibers_in_flight=4, slots=40)
BLOCKS = 128
"""Blocks from a context's first one on that it may have."""

CONTEXTS = 60

AT_ONCE = 2
"""Places that the table queues before it reads them."""

LANE_MASK = (1 << LANES) - 1


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_drain(simulator: str) -> None:
    run_bench(Drain(CONFIG), module=__name__, simulator=simulator)


@dataclass
class Block:
    """A block with a slot: its lanes, its slot and its values."""

    number: int
    touched: int
    slot: int
    values: list[int]


@dataclass
class Context:
    """A pass that is complete. Without blocks it may be ``bare``: it has no context."""

    bare: bool
    again: bool
    fiber: int
    final: bool
    blocks: list[Block]

    def words(self) -> list[tuple[int, int]]:
        """Return the words and their masks."""
        masks: dict[int, int] = {}
        for block in self.blocks:
            word, bank = divmod(block.number, BANKS)
            masks[word] = masks.get(word, 0) | 1 << bank
        return sorted(masks.items())

    def walks(self, pairs: int) -> list[tuple[Block, ...]]:
        """Return the blocks in the order of their walk: two of a word at a time, or one."""
        out: list[tuple[Block, ...]] = []
        for word, _ in self.words():
            blocks = [block for block in self.blocks if block.number // BANKS == word]
            step = PAIR if pairs else 1
            out += [tuple(blocks[n : n + step]) for n in range(0, len(blocks), step)]
        return out or [()]

    def banks(self, block: Block) -> int:
        """Return the banks of the block's lanes."""
        return banks(block.touched, block.number)

    def items(self, pairs: int) -> list[dict[str, Any]]:
        """Return the context's items: blocks that are walked together are one item, unless they
        share a lane or a bank.
        """
        fiber = {"fiber": self.fiber, "last": 0, "final": 0}
        single = {
            block.number: {
                "coordinate": block.number,
                "mask": block.touched,
                "second": dict(NO_BLOCK),
                "value": [v if block.touched >> n & 1 else 0 for n, v in enumerate(block.values)],
                **fiber,
            }
            for block in self.blocks
        }
        out: list[dict[str, Any]] = []
        for walk in self.walks(pairs):
            two = [single[block.number] for block in walk]
            together = (
                len(two) == PAIR and joins(*two) and self.banks(walk[0]) & self.banks(walk[1]) == 0
            )
            out += [joined(*two)] if together else two
        if not self.again:
            if not out:
                nothing = {**NO_BLOCK, "second": dict(NO_BLOCK), "value": [0] * LANES}
                out = [{**nothing, **fiber}]
            out[-1] |= {"last": 1, "final": int(self.final)}
        return out


class Slots:
    """The slots that are free."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.free = list(range(CONFIG.slots))

    def context(self) -> Context | None:
        """Return a new context, if there are slots for it."""
        rng = self._rng
        count = rng.choice([0, 1, 2, rng.randrange(12)])
        if count > len(self.free):
            return None
        base = rng.randrange((1 << WORD_BITS) - BLOCKS // BANKS + 1) * BANKS
        numbers = sorted(rng.sample(range(base, base + BLOCKS), count))
        if rng.random() < 0.5:  # neighbours
            first = base + rng.randrange(BLOCKS - count)
            numbers = list(range(first, first + count))
        lanes = [LANE_MASK, 1 << rng.randrange(LANES), rng.getrandbits(LANES) or 1]
        kind = rng.choice(["one lane", "apart", "any"])

        def touched(n: int) -> int:
            if kind == "one lane":
                return 1 << rng.randrange(LANES)
            if kind == "apart":
                # from the block before, in lanes and in banks: a skew swaps in fours
                fours = 0xF0F0 if n % 2 else 0x0F0F
                return fours & rng.getrandbits(LANES) or fours
            return rng.choice(lanes)

        blocks = [
            Block(
                number,
                touched(n),
                self.free.pop(rng.randrange(len(self.free))),
                [rng.getrandbits(32) for _ in range(LANES)],
            )
            for n, number in enumerate(numbers)
        ]
        bare = not blocks and rng.random() < 0.5
        again = not bare and rng.random() < 0.3
        return Context(bare, again, rng.getrandbits(32), rng.random() < 0.3, blocks)


@cocotb.test()
@cocotb.parametrize(
    pairs=[0, 1],
    # stalls of the blocks and of the table, and how many lanes the fill takes
    traffic=[
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 0.05),
        (0.0, 0.7, 0.1),
        (0.0, 0.0, 1.0),
        (0.5, 0.3, 0.2),
        (0.8, 0.0, 0.0),
    ],
)
async def contexts(dut: Any, pairs: int, traffic: tuple[float, float, float]) -> None:
    """Every block, its values, and its slot, in order; freed slots are reused."""
    stall, table_stall, fill_pace = traffic
    rng = bench.rng()
    ports = Ports(dut, Drain(CONFIG))
    sink = Sink(dut, "o", RESULT_BLOCK, bench.rng(), stall)
    await bench.start(dut)
    ports["pairs"] = pairs
    slots = Slots(rng)
    expected: list[dict[str, Any]] = []
    complete: deque[Context] = deque()
    words: deque[tuple[int, dict[str, int]]] = deque()  # the directory's, and their contexts
    offered = False
    # places still to be walked by the unit, those queued in the table, and their blocks
    places: deque[tuple[dict[str, int], tuple[Block, ...]]] = deque()
    table: deque[tuple[Block, ...]] = deque()
    due: deque[Block] = deque()  # blocks whose slots are not free yet
    ahead: deque[int] = deque()  # the cycles in which their entries were read
    held: dict[int, tuple[Block, int]] = {}  # by slot: a block and its skew
    begins = True  # the next word is its context's first one
    made = begun = opened = cycle = blocks = steps = together = reads = 0
    read: list[int | None] = [None] * LANES
    first = -1
    while made < CONTEXTS or complete or due or cycle < 10 or not ports["idle"]:
        while made < CONTEXTS and len(complete) < 3:
            new = slots.context()
            if new is None:
                break
            complete.append(new)
            held |= {block.slot: (block, skew(block.number)) for block in new.blocks}
            blocks += len(new.blocks)
            masks = new.words() or [(0, 0)] * (not new.bare)
            for n, (number, mask) in enumerate(masks):
                last = n == len(masks) - 1
                word = {"word": number, "mask": mask, "last": last, "empty": not mask}
                words.append((made, word))
            made += 1
        await FallingEdge(dut.clk)
        # the pass to drain
        ready = bool(complete) and rng.random() < (1 - table_stall) ** 2
        ports["ready"] = ready
        ports["waiting"] = waiting = rng.getrandbits(1)
        for name in ("end", "word__payload", "walk_entry", "value"):
            ports.noise(name, rng)
        if ready:
            new = complete[0]
            ports["end"] = {
                "bare": new.bare,
                "again": new.again,
                "fiber": new.fiber,
                "final": new.final,
            }
        # the directory
        offered = bool(words) and (offered or rng.random() >= table_stall)
        ports["word__valid"] = offered
        if offered:
            ports["word__payload"] = words[0][1]
        # the table
        room = ports["room"]
        walked = bool(table) and bool(room) and rng.random() >= table_stall
        ports["walked"] = walked
        if walked:
            noise = {"touched": rng.getrandbits(LANES), "slot": rng.randrange(CONFIG.slots)}
            entries = [{"touched": block.touched, "slot": block.slot} for block in table[0]]
            ports["walk_entry"] = entries + [noise] * (PAIR - len(table[0]))
        takes = len(table) < AT_ONCE and rng.random() >= table_stall
        ports["walk__ready"] = takes
        # the lane banks
        ports["value"] = [rng.getrandbits(32) if v is None else v for v in read]
        taken = sum((rng.random() < fill_pace) << bank for bank in range(LANES))
        if ports["urgent"]:
            taken &= ~ports["wanted"]
        ports["taken"] = taken

        await RisingEdge(dut.clk)
        idle = not due and not places and not table
        assert idle or not ports["idle"]
        state = StageState(ports["state"])
        nothing = StageState.STARVED if waiting else StageState.IDLE
        if ports["idle"]:
            assert state is nothing and room
        else:
            busy = StageState.BUSY, StageState.STALLED
            assert state in busy or (state is nothing and (not ahead or cycle - ahead[0] < 3))
        # the banks read, and the freed slots
        asked, slot = ports["banks"], ports["slot"]
        following, second = ports["following"], ports["second"]
        assert asked & ~ports["wanted"] == 0
        read = [None] * LANES
        for bank in range(LANES):
            if asked & ~taken & LANE_MASK & 1 << bank:
                block, turn = held[slot[following >> bank & 1][second >> bank & 1]]
                lane = bank ^ turn
                assert block.touched >> lane & 1
                read[bank] = block.values[lane]
                reads += 1
        assert ports["back_valid"] in (0b00, 0b01, 0b11)
        for n in range(ports["back_valid"].bit_count()):
            back = due.popleft()
            ahead.popleft()
            assert ports["back"][n] == back.slot
            del held[back.slot]
            slots.free.append(back.slot)
        # the table
        if walked:
            ahead.extend(cycle for _ in table.popleft())
        if ports["walk__valid"]:
            place, there = places[0]
            # where nothing is, it does not matter where
            anywhere = {} if there else {"place": {}}
            no_second = {} if place["pair"] else {"second": 0}
            assert ports["walk__payload"] | anywhere | no_second == place
            if takes:
                places.popleft()
                table.append(there)
        # the directory: the walks of a word become places
        taken_word = offered and bool(ports["word__ready"])
        assert not taken_word or (ready and words[0][0] == begun)
        bare = ready and complete[0].bare
        takes = bool(ports["next"]) if bare else taken_word
        assert not (bare and taken_word)
        assert bare or ports["next"] == (taken_word and bool(words[0][1]["last"]))
        if takes:
            word = {"word": 0, "last": 1}
            if not bare:
                offered = False
                _, word = words.popleft()
            if begins:
                here = opened % CONFIG.fibers_in_flight
                context = complete[0]
                first = cycle if first < 0 else first
                items, walks = context.items(pairs), context.walks(pairs)
                expected += items
                steps += max(1, len(items))
                together += sum(item["second"]["mask"] != 0 for item in items)
            due.extend(b for b in context.blocks if b.number // BANKS == word["word"])
            begins = bool(word["last"])
            for n, there in enumerate(walks):
                number, bank = divmod(there[0].number, BANKS) if there else (0, 0)
                if number != word["word"]:
                    continue
                layout = {"word": number, "bank": bank, "context": here} if there else {}
                place = {"place": layout, "none": int(not there), "evicts": 0}
                pair = {
                    "pair": int(len(there) == PAIR),
                    "second": there[-1].number % BANKS if len(there) == PAIR else 0,
                }
                closes = not bare and n == len(walks) - 1
                places.append(({**place, **pair, "closes": int(closes)}, there))
            if begins:
                complete.popleft()
                begun += 1
                opened += not bare
        cycle += 1
        assert cycle < 60 * CONTEXTS, f"{begun} passes, {len(due)} slots are due"
    received = await sink.wait_for(len(expected))
    assert received == expected
    assert blocks > CONTEXTS
    # each lane once: an unnecessary read would block the fill
    assert reads == sum(item["mask"].bit_count() for item in apart(expected))
    assert (together > CONTEXTS / 6) == bool(pairs)
    # an item per cycle, or as often as the fill allows
    cycles = cycle - first
    if fill_pace == 1:
        assert (PATIENCE + 0.4) * (blocks - together) < cycles <= (PATIENCE + 1) * steps + 20
    elif not stall and not table_stall:
        assert cycles <= 1.12 * steps + 15
