"""`Directory` against sets of blocks."""

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.directory import Directory
from loopnest_hw.accumulate.place import BANKS, WORD_BITS, set_bits
from loopnest_hw.config import PAIR, ChipConfig, make_config
from tb.accumulate.colliding import colliding_words
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CYCLES = 2400

CASES = {
    "one": {"fibers_in_flight": 1, "slots": 20},
    "few": {"fibers_in_flight": 4, "slots": 48},
    "many": {"fibers_in_flight": 16, "slots": 128},
}


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("case", CASES)
def test_directory(simulator: str, case: str) -> None:
    """One context, few and many."""
    if (case == "one") != (simulator == "icarus"):
        pytest.skip("left to the other simulator")
    run_bench(
        Directory(make_config("shrunk", **CASES[case])),
        module=__name__,
        simulator=simulator,
        parameters=CASES[case],
    )


@dataclass
class Contexts:
    """The contexts in their ring: one is filled, those before it are walked."""

    config: ChipConfig
    filling: int = 0
    open: bool = True
    """Whether blocks can be put to the context ``filling``."""
    begun: int = 0
    walked: int = 0
    """Contexts whose walk has begun, and has ended."""
    masks: dict[int, dict[int, int]] = field(default_factory=lambda: {0: {}})
    """Of each context that is not walked yet, the masks of its words."""
    expected: deque[dict[str, int]] = field(default_factory=deque)
    """The words that are to be walked."""

    @property
    def here(self) -> dict[int, int]:
        """The masks of the context that is filled."""
        return self.masks[self.filling]

    @property
    def blocks(self) -> int:
        """Blocks of all contexts."""
        of_words = [mask for words in self.masks.values() for mask in words.values()]
        of_words += [word["mask"] for word in self.expected]
        return sum(mask.bit_count() for mask in of_words)

    def put(self, word: int, bank: int) -> bool:
        """Add a block; return False if it was there."""
        if self.here.get(word, 0) >> bank & 1:
            return False
        self.here[word] = self.here.get(word, 0) | 1 << bank
        return True

    def follow(self) -> None:
        """Begin the next context, if there is one."""
        if not self.open and self.filling + 1 - self.walked < self.config.fibers_in_flight:
            self.filling += 1
            self.masks[self.filling] = {}
            self.open = True

    def begin(self) -> None:
        """Turn a context into a walk."""
        words = sorted(self.masks.pop(self.begun).items()) or [(0, 0)]
        for n, (word, mask) in enumerate(words):
            last = int(n == len(words) - 1)
            self.expected.append({"word": word, "mask": mask, "last": last, "empty": int(not mask)})
        self.begun += 1

    def take(self) -> dict[str, int]:
        """Return the next word."""
        word = self.expected.popleft()
        self.walked += word["last"]
        return word


def words_of(kind: str, rng: random.Random, config: ChipConfig) -> list[int]:
    """Return the words of one kind of contexts."""
    if kind == "near":
        first = rng.randrange((1 << WORD_BITS) - 3)
        return list(range(first, first + 3))
    if kind == "strided":
        return [n << rng.choice([4, 6, 8]) for n in range(8)]
    if kind == "collide":
        return colliding_words(config)[:40]
    return [rng.randrange(1 << WORD_BITS) for _ in range(20)] + [0, (1 << WORD_BITS) - 1]


async def sweep(dut: Any, ports: Ports, config: ChipConfig) -> None:
    """Clear the tables."""
    for set_ in range(1 << set_bits(config)):
        await FallingEdge(dut.clk)
        ports["sweep"], ports["sweep_set"] = 1, set_
    await FallingEdge(dut.clk)
    ports["sweep"] = 0


@cocotb.test()
@cocotb.parametrize(kind=["near", "strided", "collide", "far"], pace=[0.5, 1.0])
async def contexts(dut: Any, kind: str, pace: float) -> None:
    """Blocks are entered, walked upwards and evicted from above."""
    config = make_config("shrunk", **bench.parameters)
    rng = bench.rng()
    ports = Ports(dut, Directory(config))
    await bench.start(dut)
    await sweep(dut, ports, config)
    model = Contexts(config)
    seen: Counter[str] = Counter()
    evicting = ended = waits = top = 0
    span = words_of(kind, rng, config)
    cycles = bench.count(CYCLES)
    for cycle in range(cycles):
        await FallingEdge(dut.clk)
        model.follow()
        slow = cycle // 400 % 2  # contexts are walked until only one is left
        here = model.filling % config.fibers_in_flight
        ports["keep_valid"] = ports["look"] = 0
        ports.noise("keep", rng)
        puts: list[Any] = [{"enable": 0, "place": {}}] * PAIR
        ports["of"] = here if evicting else rng.randrange(config.fibers_in_flight)
        alone = model.walked == model.filling and model.open and model.here
        ends = False
        ports["next"] = 0
        if evicting == 3:
            # on to the next word
            ports["next"], evicting = 1, 1
        elif evicting == 2:
            keep = rng.choice([0, model.here[top] ^ 1 << model.here[top].bit_length() - 1])
            ports["keep"], ports["keep_valid"] = keep, 1
            model.here[top] = keep
            evicting = 0
            if not keep:
                del model.here[top]
                evicting = rng.choice([0, 3, 3, 3])
            seen["kept" if keep else "evicted"] += 1
        elif evicting == 0 and alone and ports["idle"] and rng.random() < (1.0 if slow else 0.2):
            ports["of"], ports["look"] = here, 1
            evicting = 1
            top = 1 << WORD_BITS
        elif evicting == 0 and model.open:
            if ports["room"] and rng.random() < pace:
                for n in range(rng.choice([1, PAIR, PAIR])):
                    word, bank = rng.choice(span), rng.randrange(BANKS)
                    if model.blocks < config.slots and model.put(word, bank):
                        place = {"context": here, "word": word, "bank": bank}
                        puts[n] = {"enable": 1, "place": place}
                        seen["put"] += 1
            seen["no room"] += not ports["room"]
            likely = 1.0 if model.blocks >= config.slots else 0.05
            ends = rng.random() < (0.02 if slow else likely)
        ports["put"] = puts
        # an end is seen one cycle after the last put
        ports["ended"] = ended % (2 * config.fibers_in_flight)
        ports["word__ready"] = takes = rng.random() < pace
        await RisingEdge(dut.clk)
        if ports["looked"]:
            assert evicting == 1
            lower = [word for word in model.here if word < top]
            assert ports["none"] == (not lower)
            evicting = 2 if lower else 0
            seen["none"] += not lower
            if lower:
                top = max(lower)
                assert (ports["top"], ports["mask"]) == (top, model.here[top])
        if ports["word__valid"] and takes:
            if not model.expected:
                # a context is only walked when it has ended
                assert model.begun < ended
                model.begin()
            word = model.take()
            nowhere = {"word": 0} if word["empty"] else {}
            assert ports["word__payload"] | nowhere == word
            seen["walked"] += 1
        # the most cycles that a block has waited
        waits = waits + 1 if not ports["idle"] else 0
        seen["wait"] = max(seen["wait"], waits)
        if ends:
            ended += 1
            model.open = False
    dut._log.info("%s", seen)
    assert min(seen["put"], seen["walked"]) > cycles / 40
    assert min(seen["kept"], seen["evicted"]) >= cycles // 1200
    assert seen["none"] or kind != "near"
