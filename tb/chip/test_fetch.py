"""`DescriptorFetch`: descriptors of a list, the first at once, the others in their turn."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.fetch import DescriptorFetch
from loopnest_hw.config import LINE_BYTES, ChipConfig, make_config
from loopnest_hw.descriptor import MAGIC, Place, descriptor_lines, kernel_fields, pack, places
from loopnest_hw.format import LINE_WORDS
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.tokens import line_reply, line_request
from tb.chip.descriptors import register
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, encode

CONFIGS = {"uncached": make_config("shrunk"), "cached": make_config("shrunk", cache=1)}
LISTS = 25
FAILING = 0.3
"""Share of the descriptors with failing lines."""

LATENCY = 3
"""Cycles from the first line's move to the last one's, without their number."""


def configuration() -> ChipConfig:
    """Return the running bench's configuration."""
    return CONFIGS[bench.parameters["config"]]


def early_fields(config: ChipConfig) -> dict[str, Place]:
    """Return the places of ``magic`` and ``prefetch`` in the descriptor."""
    return {
        p.field.path: p
        for p in places(config)
        if p.field.path == "magic" or p.field.path.startswith("prefetch")
    }


class Lines:
    """Answers requests in random order, each after some cycles."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._rng = bench.rng()
        self.content: dict[int, int] = {}
        self.failing: set[int] = set()
        self.open: list[dict[str, int]] = []
        self.asked: list[int] = []
        self._sink = Sink(
            dut,
            "request",
            line_request(configuration()),
            bench.rng(),
            stall=bench.parameters["stall"],
            check=self._take,
        )
        dut.reply__valid.value = 0
        cocotb.start_soon(self._run())

    def _take(self, request: dict[str, int]) -> None:
        self.asked.append(request["line"])
        self.open.append(request)

    async def _run(self) -> None:
        while True:
            await RisingEdge(self._dut.clk)
            answers = bool(self.open) and self._rng.random() >= bench.parameters["stall"]
            self._dut.reply__valid.value = int(answers)
            if not answers:
                continue
            request = self.open.pop(self._rng.randrange(len(self.open)))
            failed = request["line"] in self.failing
            data = self._rng.getrandbits(256) if failed else self.content[request["line"]]
            answer = {"slot": request["slot"], "data": data, "error": int(failed)}
            self._dut.reply__payload.value = encode(line_reply(configuration()), answer)


@cocotb.test()
async def lists(dut: Any) -> None:
    rng, config = bench.rng(), configuration()
    count = descriptor_lines(config)
    first_lines = {place.word // LINE_WORDS for place in early_fields(config).values()}
    member = kernel_layout(config)["prefetch"] if config.cached else None
    memory = Lines(dut)
    dut.start.value = dut.ahead.value = dut.take.value = dut.stop.value = 0
    await bench.start(dut)
    failures = earlier = 0
    for _ in range(LISTS):
        line = rng.choice((0, rng.getrandbits(27), (1 << 27) - 3))
        before = 0
        for number in range(rng.randrange(1, 5)):
            kernel = {f.path: rng.getrandbits(f.bits) for f in kernel_fields(config)}
            kernel["magic"] = rng.choice((MAGIC, MAGIC, MAGIC ^ 1 << rng.randrange(16)))
            words = pack(config, kernel)
            own = [(line + n) % (1 << 27) for n in range(count)]
            memory.asked.clear()
            memory.failing = set(rng.sample(own, 2)) if rng.random() < FAILING else set()
            for n, place in enumerate(own):
                raw = words[8 * n : 8 * n + 8].tobytes()
                memory.content[place] = int.from_bytes(raw, "little")
            (dut.ahead if number else dut.start).value = 1
            dut.line.value = own[0] if number == 0 else rng.getrandbits(27)
            await RisingEdge(dut.clk)
            dut.start.value = dut.ahead.value = 0
            if number:
                await ClockCycles(dut.clk, rng.choice((1, 5, 12 * count)))
                assert int(dut.kernel.value) == before, "the register changes only in its turn"
                assert not int(dut.loaded.value)
            ready = len(memory.asked) == count and not memory.open
            dut.take.value = 1
            cycles = 0
            while cycles == 0 or not int(dut.loaded.value):
                await RisingEdge(dut.clk)
                cycles += 1
                if int(dut.prefetches.value):
                    assert member is not None and number == 0
                    mask = ((1 << member.width) - 1) << member.offset
                    expected = register(config, kernel)
                    assert (int(dut.kernel.value) ^ expected) & mask == 0
                    earlier += not int(dut.loaded.value)
            whole = not any(own[n] in memory.failing for n in first_lines)
            right = kernel["magic"] == MAGIC
            assert int(dut.prefetches.value) == (config.cached and not number and whole and right)
            assert not ready or cycles <= count + LATENCY
            dut.take.value = 0
            assert memory.asked == own
            assert int(dut.failed.value) == bool(memory.failing)
            if memory.failing:
                failures += 1
                lowest = next(place for place in own if place in memory.failing)
                assert int(dut.where.value) == LINE_BYTES * lowest
            else:
                assert int(dut.kernel.value) == register(config, kernel)
            await ClockCycles(dut.clk, rng.randrange(3))
            before = int(dut.kernel.value)
            line = own[-1] + 1
        if rng.randrange(2):  # one that is left: the next list starts in spite of it
            dut.ahead.value = 1
            await RisingEdge(dut.clk)
            dut.ahead.value = 0
            memory.content |= {(line + n) % (1 << 27): rng.getrandbits(256) for n in range(count)}
            memory.failing = set()
            dut.take.value = rng.randrange(2)
            while int(dut.busy.value) or memory.open or len(memory.asked) < 2 * count:
                await RisingEdge(dut.clk)
                if len(memory.asked) == 2 * count and not memory.open:
                    break
            await ClockCycles(dut.clk, rng.randrange(1, count + 4))
            dut.take.value = 0
    assert failures > 5 and (earlier > 0) == config.cached


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_fetch(simulator: str, stall: float, config: str) -> None:
    run_bench(
        DescriptorFetch(CONFIGS[config]),
        module=__name__,
        simulator=simulator,
        parameters={"stall": stall, "config": config},
    )
