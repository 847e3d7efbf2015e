"""`Directory` against sets of blocks."""

import random
from collections import deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.directory import DEPTH, Directory
from loopnest_hw.accumulate.place import BANKS
from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.tokens import PAIR
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CYCLES = 2500

CASES = {
    "halves": {"window": 128, "fibers_in_flight": 4},
    "one word": {"window": 32, "fibers_in_flight": 1},
    "many": {"window": 256, "fibers_in_flight": 16},
}


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("case", CASES)
def test_directory(simulator: str, case: str) -> None:
    """Even and odd words, and a single one."""
    if (case == "one word") == (simulator == "verilator") and case != "halves":
        pytest.skip("left to the other simulator")
    run_bench(
        Directory(make_config(**CASES[case])),
        module=__name__,
        simulator=simulator,
        parameters=CASES[case],
    )


class Model:
    """The contexts' blocks by word, the blocks that wait to be entered, and the walk."""

    def __init__(self, config: ChipConfig) -> None:
        words = config.window // BANKS
        self.contexts: list[dict[int, int]] = [{} for _ in range(config.fibers_in_flight)]
        self.waiting: list[deque[tuple[int, int, int]]] = [deque() for _ in range(min(PAIR, words))]
        self.walk: list[tuple[int, int]] | None = None
        """Words and masks still to be taken, or None if nothing is walked."""
        self.walked = -1
        """Their context."""

    def put(self, context: int, word: int, bank: int) -> None:
        """Queue a block."""
        self.waiting[word % len(self.waiting)].append((context, word, bank))

    def enter(self) -> None:
        """Enter the blocks that can be entered in a cycle."""
        for half in self.waiting:
            if half:
                context, word, bank = half.popleft()
                self.contexts[context][word] = self.contexts[context].get(word, 0) | 1 << bank

    def begin(self, context: int) -> None:
        """Turn a context into the walk."""
        self.walk = sorted(self.contexts[context].items())
        self.walked = context
        self.contexts[context] = {}

    def take(self) -> int | None:
        """Take the next word, and return its mask."""
        assert self.walk is not None
        mask = self.walk.pop(0)[1] if self.walk else None
        if not self.walk:
            self.walk = None
            self.walked = -1
        return mask

    def waits(self, context: int) -> bool:
        """Return whether a block of the context waits."""
        return any(of == context for half in self.waiting for of, _, _ in half)


def random_puts(
    model: Model, config: ChipConfig, room: bool, blocks: range, rng: random.Random
) -> list[Any]:
    """Return new blocks of contexts that are not walked."""
    puts: list[Any] = []
    for _ in range(PAIR):
        context = rng.randrange(config.fibers_in_flight)
        word, bank = divmod(rng.choice(blocks), BANKS)
        new = not model.contexts[context].get(word, 0) >> bank & 1
        known = any((context, word, bank) in half for half in model.waiting)
        known |= (context, word, bank) in [put[1:] for put in puts]
        enable = room and new and not known and context != model.walked and rng.random() < 0.7
        puts.append((enable, context, word, bank))
    return puts


@cocotb.test()
async def blocks(dut: Any) -> None:
    """Blocks are entered, walked upwards and evicted from above, in every cycle that allows it. An
    eviction is a look, followed by the mask that the word keeps.
    """
    config = make_config(**bench.parameters)
    rng = bench.rng()
    ports = Ports(dut, Directory(config))
    await bench.start(dut)
    model = Model(config)
    mask: int | None = None  # what was read last
    shown: dict[int, int] = {}  # the words of context `of` in the last cycle
    evicted_of = -1  # the context of an eviction, which is between its look and its keep
    evicted_word = of = 0
    walked = kept = full = 0
    for cycle in range(CYCLES):
        # many blocks and few, in all words and in one
        pace = rng.random() < (0.9 if cycle // 200 % 2 else 0.3)
        span = range(config.window)
        if cycle // 40 % 3:
            word = cycle // 40 % (config.window // BANKS)
            span = span[word * BANKS : (word + 1) * BANKS]
        await FallingEdge(dut.clk)
        room = ports["room"]
        assert room == all(len(half) <= DEPTH - PAIR for half in model.waiting)
        idle = not any(model.waiting)
        assert ports["idle"] == idle
        full += not room
        if model.walk is not None:
            word = model.walk[0][0] if model.walk else 0
            last = len(model.walk) <= 1
            step = ports["word"]
            assert step["last"] == last
            assert step["empty"] == (not model.walk)
            assert step["empty"] or step["word"] == word
        if shown:
            assert ports["top"] == max(shown)
        if mask is not None:
            assert ports["mask"] == mask

        evicts = evicted_of >= 0
        puts = random_puts(model, config, bool(room and pace and not evicts), span, rng)
        ports["put"] = [
            {"enable": enable, "place": {"context": context, "word": word, "bank": bank}}
            for enable, context, word, bank in puts
        ]
        # keep
        keep_valid = evicts and rng.random() < 0.5
        keep = 0
        ports.noise("keep", rng)
        if keep_valid:
            before = model.contexts[evicted_of][evicted_word]
            keep = before & rng.choice([0, rng.getrandbits(BANKS)])
            ports["keep"] = keep
        ports["keep_valid"] = keep_valid
        # look
        look = idle and not evicts and bool(shown) and shown == model.contexts[of]
        look &= rng.random() < 0.2 and not any(enable for enable, *_ in puts)
        ports["look"] = look
        # take and begin
        take = model.walk is not None and not look and rng.random() < 0.6
        ends = model.walk is None or (take and len(model.walk) <= 1)
        context = rng.randrange(config.fibers_in_flight)
        waits = model.waits(context) or any(put[0] and put[1] == context for put in puts)
        begin = ends and not waits and not evicts and not look and rng.random() < 0.2
        ports["take"], ports["begin"], ports["context"] = take, begin, context

        await RisingEdge(dut.clk)
        shown = dict(model.contexts[of])
        if look:
            evicted_of, evicted_word = of, max(model.contexts[of])
            mask = model.contexts[of][evicted_word]
        elif keep_valid:
            model.contexts[of][evicted_word] = keep
            if not keep:
                del model.contexts[of][evicted_word]
            evicted_of = -1
            kept += 1
        elif not evicts and rng.random() < 0.1:
            of = rng.randrange(config.fibers_in_flight)
            ports["of"] = of
        if take:
            mask = model.take()
            walked += 1
        model.enter()
        for enable, where, word, bank in puts:
            if enable:
                model.put(where, word, bank)
        if begin:
            model.begin(context)
    assert walked > CYCLES / 20
    assert kept > CYCLES / 100
    dut._log.info("%d %d %d", walked, kept, full)
    assert full > 0


@cocotb.test()
async def every_word(dut: Any) -> None:
    """Each word of each context gets a block, is looked at, and is evicted."""
    config = make_config(**bench.parameters)
    rng = bench.rng()
    ports = Ports(dut, Directory(config))
    await bench.start(dut)
    nothing = {"enable": 0, "place": {"context": 0, "word": 0, "bank": 0}}
    for context in range(config.fibers_in_flight):
        for word in range(config.window // BANKS):
            bank = rng.randrange(BANKS)
            await FallingEdge(dut.clk)
            place = {"context": context, "word": word, "bank": bank}
            ports["put"] = [{"enable": 1, "place": place}, nothing]
            ports["of"] = context
            await FallingEdge(dut.clk)
            ports["put"] = [nothing, nothing]
            for _ in range(3):
                await FallingEdge(dut.clk)
            assert ports["idle"] and ports["top"] == word
            ports["look"] = 1
            await FallingEdge(dut.clk)
            ports["look"] = 0
            assert ports["mask"] == 1 << bank
            ports["keep"], ports["keep_valid"] = 0, 1
            await FallingEdge(dut.clk)
            ports["keep_valid"] = 0
        ports["context"], ports["begin"] = context, 1
        await FallingEdge(dut.clk)
        ports["begin"] = 0
        assert ports["word"]["empty"]
        ports["take"] = 1
        await FallingEdge(dut.clk)
        ports["take"] = 0
