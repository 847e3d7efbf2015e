"""A model of the leaf for the accumulator's benches: looks up blocks, then sends terms of kept
ones.
"""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from loopnest_hw.accumulate.table import RETIRED
from loopnest_hw.config import LANES, PAIR, ChipConfig
from loopnest_hw.tokens import found, lookup, terms
from loopnest_sim.model.skew import skew
from tb.harness import PERIOD_NS
from tb.streams import Sink, Source

Item = dict[int, dict[int, int]]
"""A lookup's values: the bits of each, by block and lane."""


@dataclass
class Fiber:
    """A result fiber: its position and its lookups."""

    position: int
    items: list[Item]


@dataclass
class Leaf:
    """Sends a nest's lookups and terms to an accumulator, and replays fibers on request.

    ``extra`` is the probability of an empty step of terms after a lookup. With ``last``, terms are
    sent only once all fibers have been looked up. ``taken`` are the cycles
    in which the steps of terms were taken.
    """

    dut: Any
    config: ChipConfig
    fibers: list[Fiber]
    rng: random.Random
    stall: float = 0.0
    extra: float = 0.0
    last: bool = False
    replays: int = 0
    stale: int = 0
    steps: int = 0
    taken: list[int] = field(default_factory=list)
    _asked: deque[tuple[int, int]] = field(default_factory=deque)
    _epoch: int = 0
    _at: tuple[int, int] = (0, 0)
    _oldest: int = 0

    def __post_init__(self) -> None:
        sink = {"rng": self.rng, "stall": self.stall}
        self.lookups = Source(self.dut, "lookup", lookup(self.config), **sink)
        self.terms = Source(self.dut, "terms", terms(self.config), **sink)
        self.retired = Sink(self.dut, "retired", RETIRED, **sink, check=self._retire)
        self.found = Sink(self.dut, "found", found(self.config), **sink, check=self._answer)
        self._queue: deque[dict[str, Any]] = deque()

    @property
    def done(self) -> bool:
        """Every fiber has been retired."""
        return self._oldest == len(self.fibers)

    def start(self) -> None:
        """Start."""
        cocotb.start_soon(self._send_lookups())
        cocotb.start_soon(self._send_terms())

    async def _send_lookups(self) -> None:
        while not self.done:
            number, position = self._at
            if number == len(self.fibers):
                await RisingEdge(self.dut.clk)
                continue
            items = self.fibers[number].items
            end = position == len(items) - 1
            self._at = (number + 1, 0) if end else (number, position + 1)
            blocks = sorted(items[position].items())
            pad = [(self.rng.getrandbits(16), {}) for _ in range(PAIR - len(blocks))]
            self._asked.append((number, position))
            await self.lookups.send(
                {
                    "count": len(blocks),
                    "block": [block for block, _ in blocks + pad],
                    "mask": [sum(1 << lane for lane in lanes) for _, lanes in blocks]
                    + [self.rng.getrandbits(LANES) for _ in pad],
                    "end": end,
                    "retire": end,
                    "final": end and number == len(self.fibers) - 1,
                    "epoch": self._epoch,
                }
            )

    def _retire(self, item: dict[str, int]) -> None:
        if item["again"]:
            self._at = (self._oldest, 0)
            self._epoch ^= 1
            self.replays += 1
        else:
            self._oldest += 1

    def _answer(self, answer: dict[str, Any]) -> None:
        number, position = self._asked.popleft()
        fiber = self.fibers[number]
        if answer["stale"]:
            self.stale += 1
            return
        end = position == len(fiber.items) - 1
        blocks = sorted(fiber.items[position].items())
        work = [
            (value, lane ^ skew(block), answer["slot"][n], answer["first"][n] >> lane & 1)
            for n, (block, lanes) in enumerate(blocks)
            if answer["keep"] >> n & 1
            for lane, value in sorted(lanes.items())
        ]
        for n, (_, lanes) in enumerate(blocks):
            mask = sum(1 << lane for lane in lanes) if answer["keep"] >> n & 1 else 0
            assert answer["first"][n] & ~mask == 0
        steps = list(self._steps(work))
        if self.rng.random() < self.extra or (end and not steps):
            steps.append([])
        for n, step in enumerate(steps):
            last = end and n == len(steps) - 1
            self._queue.append(self._step(step, fiber.position, last, last and number))
        self.steps += len(steps)

    def _steps(self, work: list[Any]) -> Iterator[list[Any]]:
        """Start a new step when the current one is full or already has the bank."""
        step: list[Any] = []
        for term in work:
            if len(step) == self.config.multipliers or any(term[1] == t[1] for t in step):
                yield step
                step = []
            step.append(term)
        if step:
            yield step

    def _step(self, work: list[Any], fiber: int, end: bool, number: int) -> dict[str, Any]:
        places = self.rng.sample(range(self.config.multipliers), len(work))
        slots: list[Any] = [None] * self.config.multipliers
        for place, term in zip(places, work, strict=True):
            slots[place] = term
        noise = [
            (self.rng.getrandbits(32), self.rng.randrange(LANES), 0, self.rng.getrandbits(1))
            if slot is None
            else slot
            for slot in slots
        ]
        return {
            "valid": sum(1 << n for n, slot in enumerate(slots) if slot is not None),
            "value": [term[0] for term in noise],
            "index": [term[1] for term in noise],
            "place": [term[2] for term in noise],
            "first": sum(term[3] << n for n, term in enumerate(noise)),
            "fiber": fiber if end else self.rng.getrandbits(32),
            "end": end,
            "final": end and number == len(self.fibers) - 1,
        }

    async def _send_terms(self) -> None:
        while True:
            if self._queue and (self.done or not self.last):
                await self.terms.send(self._queue.popleft())
                self.taken.append(round(get_sim_time("ns")) // PERIOD_NS)
            else:
                await RisingEdge(self.dut.clk)
