"""`Bank` against a memory that reorders and fails, and flushes."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.cache.bank import Bank
from loopnest_hw.cache.epoch import tag_clear
from loopnest_hw.cache.geometry import (
    CacheConfig,
    answer,
    line_of,
    lookup,
    miss,
    set_of,
    upper_of,
)
from loopnest_hw.cache.waiters import arrival
from loopnest_sim.model.replace import hits
from tb.cache.lines import Lines, Memory
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Source, decode, encode

BANK = 1
GROUPS = 500
SETTLE = 60
"""Cycles in which a bank without work answers everything."""


def configuration() -> CacheConfig:
    """Return the running bench's configuration."""
    return CacheConfig(**bench.parameters["config"])


class Clients:
    """Sends groups of requests, and checks every answer."""

    def __init__(self, dut: Any, lines: int) -> None:
        self._dut = dut
        self._parameters = bench.parameters
        self._config = configuration()
        self._rng = bench.rng()
        self.lines = [line_of(self._config, BANK, upper) for upper in range(lines)]
        self.content = Lines()
        low, high = self._parameters["latency"]
        self.memory = Memory(
            self.content, bench.rng(), latency=(low, high), errors=self._parameters["errors"]
        )
        self._source = Source(
            dut, "i", lookup(self._config), bench.rng(), stall=self._parameters["stall"]
        )
        self._reserved: set[tuple[int, int]] = set()
        self.waiting: dict[tuple[int, int], tuple[int, int]] = {}
        self.cycle = 0
        self.events = {"hit": 0, "missed": 0, "joined": 0}
        self.groups = self.answers = self.errors = 0
        self.answer_cycles: list[int] = []
        self.dead = False
        cocotb.start_soon(self._monitor())

    async def _monitor(self) -> None:
        """Watch every transfer, and play the memory and the clients that take answers."""
        dut, config, rng = self._dut, self._config, self._rng
        slow, stalls = self._parameters["slow"], self._parameters["memory_stall"]
        everyone = (1 << config.clients) - 1
        data = 0
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if not int(dut.rst.value):
                self._watch()
            taken = sum((rng.random() >= slow) << c for c in range(config.clients))
            dut.taken.value = taken if slow else everyone
            dut.misses__ready.value = int(rng.random() >= stalls)
            dut.fill_data.value = data
            came = None if self.dead else self.memory.answer(self.cycle)
            dut.fill__valid.value = int(came is not None)
            data = 0
            if came is not None:
                key, data, failed = came
                value = {"number": key, "error": int(failed)}
                dut.fill__payload.value = encode(arrival(config), value)

    def _watch(self) -> None:
        dut, config = self._dut, self._config
        for event in self.events:
            self.events[event] += int(getattr(dut, event).value)
        took = int(dut.waits.value) & int(dut.taken.value)
        if took:
            given = decode(answer(config), int(dut.o.value))
            for client in range(config.clients):
                if took >> client & 1:
                    self._answered((client, given["slot"][client]), given)
        if int(dut.i__valid.value) and int(dut.i__ready.value):
            item = decode(lookup(config), int(dut.i__payload.value))
            self.groups += 1
            line = line_of(config, BANK, item["upper"])
            for client in range(config.clients):
                if item["group"]["mask"] >> client & 1:
                    request = (client, item["group"]["slot"][client])
                    assert request not in self.waiting
                    self.waiting[request] = (line, self.cycle)
        if int(dut.misses__valid.value) and int(dut.misses__ready.value):
            item = decode(miss(config), int(dut.misses__payload.value))
            self.memory.read(self.cycle, item["waiter"], line_of(config, BANK, item["upper"]))

    def _answered(self, request: tuple[int, int], given: dict[str, Any]) -> None:
        assert request in self.waiting, f"{request} was not requested, or answered before"
        line, since = self.waiting.pop(request)
        self._reserved.discard(request)
        self.answers += 1
        self.answer_cycles.append(self.cycle)
        if given["error"]:
            self.errors += 1
            slack = SETTLE / (1 - self._parameters["slow"])
            assert self.memory.failed.get(line, -1000) >= since - slack, "an error was kept"
        else:
            self.content.check(line, given["data"])

    async def prefetch(self, line: int) -> None:
        """Send a line for which no client waits."""
        nobody = {"mask": 0, "slot": [0] * self._config.clients}
        await self._source.send({"upper": upper_of(self._config, line), "group": nobody})

    async def ask(self, line: int) -> None:
        """Send a group of requests of one line."""
        clients, slots = self._config.clients, 1 << self._config.slot_bits
        while True:
            free = [
                [s for s in range(slots) if (c, s) not in self._reserved] for c in range(clients)
            ]
            able = [c for c in range(clients) if free[c]]
            if able:
                break
            await RisingEdge(self._dut.clk)
        chosen = self._rng.sample(able, self._rng.randint(1, len(able)))
        slot = [self._rng.choice(free[c]) if free[c] else 0 for c in range(clients)]
        self._reserved |= {(c, slot[c]) for c in chosen}
        mask = sum(1 << c for c in chosen)
        await self._source.send(
            {
                "upper": upper_of(self._config, line),
                "group": {"mask": mask, "slot": slot},
            }
        )

    async def drain(self) -> None:
        """Wait until all is answered."""
        start = self.cycle
        await ClockCycles(self._dut.clk, 5)  # the last group may be a miss
        while self.waiting or not self.memory.quiet:
            await RisingEdge(self._dut.clk)
            assert self.cycle < start + 5000, f"not answered: {self.waiting}"
        await ClockCycles(self._dut.clk, 10)

    def forget(self) -> None:
        """Forget everything in flight: the bank is in reset."""
        self.waiting.clear()
        self._reserved.clear()
        self.memory.forget()
        self._source.set_idle()


class Epochs:
    """Empties the tags as `loopnest_hw.cache.epoch` does."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._config = configuration()
        self._epoch = 0

    async def sweep(self) -> None:
        """Sweep all sets."""
        for at in range(self._config.sets):
            self._set({"epoch": self._epoch, "sweeping": 1, "set": at})
            await RisingEdge(self._dut.clk)
        self._set({"epoch": self._epoch, "sweeping": 0, "set": 0})

    def _set(self, value: dict[str, int]) -> None:
        self._dut.clear.value = encode(tag_clear(self._config), value)

    async def flush(self, clients: Clients) -> None:
        """Reset the bank and empty its tags; meanwhile the host writes all lines."""
        self._epoch = (self._epoch + 1) % (1 << self._config.epoch_bits)
        self._dut.rst.value = 1
        await RisingEdge(self._dut.clk)
        self._set({"epoch": self._epoch, "sweeping": int(self._epoch == 0), "set": 0})
        clients.forget()
        clients.content.write()
        await RisingEdge(self._dut.clk)
        self._dut.rst.value = 0
        if self._epoch == 0:
            await self.sweep()


async def started(dut: Any, lines: int) -> tuple[Clients, Epochs]:
    """Return the bank's neighbours, after the first sweep."""
    await bench.start(dut)
    clients = Clients(dut, lines)
    epochs = Epochs(dut)
    await epochs.sweep()
    return clients, epochs


@cocotb.test(timeout_time=200, timeout_unit="us")
async def all_at_once(dut: Any) -> None:
    """Few lines, so they are requested again while on their way, and replaced."""
    rng = bench.rng()
    clients, _ = await started(dut, 16)
    groups = bench.count(GROUPS)
    for _ in range(groups):
        line = clients.lines[0] if rng.random() < 0.3 else rng.choice(clients.lines)
        if rng.random() < 0.2:
            await clients.prefetch(line)
        else:
            await clients.ask(line)
    await clients.drain()
    events = clients.events
    dut._log.info("%s, %d answers, %d errors", events, clients.answers, clients.errors)
    assert sum(events.values()) == clients.groups == groups
    assert events["missed"] == clients.memory.reads
    assert min(events.values()) > groups // 20
    assert bool(clients.errors) == bool(bench.parameters["errors"])
    assert clients.memory.max_in_flight <= clients._config.waiters


@cocotb.test(timeout_time=200, timeout_unit="us")
async def flushes(dut: Any) -> None:
    """A flush at any time: nothing from before is answered, and nothing is kept."""
    rng = bench.rng()
    clients, epochs = await started(dut, 8)
    for _ in range(bench.count(30)):

        async def some() -> None:
            while True:
                await clients.ask(rng.choice(clients.lines))

        task = cocotb.start_soon(some())
        await ClockCycles(dut.clk, rng.randint(1, 60))
        task.cancel()
        await epochs.flush(clients)
    for line in clients.lines:
        await clients.ask(line)
    await clients.drain()
    assert not clients.waiting


@cocotb.test(timeout_time=200, timeout_unit="us")
async def prefetched(dut: Any) -> None:
    """A line for which no client waited is there for those that come later."""
    clients, _ = await started(dut, 4)
    if bench.parameters["errors"]:
        return
    for line in clients.lines[:2]:
        await clients.prefetch(line)
    await clients.drain()
    assert not clients.answers and clients.memory.reads == 2
    for line in clients.lines[:2]:
        await clients.ask(line)
    await clients.drain()
    assert clients.memory.reads == 2 and clients.events["hit"] == 2


@cocotb.test(timeout_time=400, timeout_unit="us")
async def replacement(dut: Any) -> None:
    """Lines of a set one after the other, as its golden function says; one that is asked for again
    and again stays while others pass.
    """
    rng = bench.rng()
    clients, epochs = await started(dut, 64)
    if bench.parameters["errors"]:
        return
    config = configuration()
    of_set: dict[int, list[int]] = {}
    for upper, line in enumerate(clients.lines):
        of_set.setdefault(set_of(config, upper), []).append(line)
    for lines in [*of_set.values(), *of_set.values()]:
        again, passing = lines[0], lines[1 : 3 * config.ways]
        asked = [line for other in passing for line in (again, other)]
        assert list(hits(config.ways, asked))[2::2] == [True] * (len(passing) - 1)
        few = lines[len(passing) + 1 :][: config.ways + 2]
        asked += [rng.choice(few) for _ in range(bench.count(80))]
        before = clients.events["hit"]
        for line, found in zip(asked, hits(config.ways, asked), strict=True):
            await clients.ask(line)
            await clients.drain()
            assert clients.events["hit"] == before + found
            before += found
        await epochs.flush(clients)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def hits_pass_misses(dut: Any) -> None:
    """While lines are on their way, the bank answers one group per cycle from those it has."""
    clients, _ = await started(dut, 4)
    if bench.parameters["slow"] or bench.parameters["stall"] or bench.parameters["errors"]:
        return
    here, away = clients.lines[:2]
    await clients.ask(here)
    await clients.drain()
    clients.dead = True
    await clients.ask(away)
    first = clients.answers
    start = clients.cycle
    before = clients.events["hit"]
    for _ in range(40):
        await clients.ask(here)
    assert clients.events["hit"] - before >= 38
    assert clients.cycle - start <= 44
    assert clients.answers > first
    clients.dead = False
    await clients.drain()


CONFIGS = {
    "tiny": {"clients": 3, "slot_bits": 3, "banks": 2, "ports": 1, "sets": 2, "ways": 2,
             "waiters": 2, "lanes": 1, "epoch_bits": 1, "line_bits": 10},
    "small": {"clients": 2, "slot_bits": 4, "banks": 4, "ports": 2, "sets": 2, "ways": 4,
              "waiters": 8, "lanes": 1, "epoch_bits": 2, "line_bits": 27},
}  # fmt: skip
CASES = {
    "fast": {"stall": 0, "slow": 0, "memory_stall": 0, "latency": (1, 1), "errors": 0},
    "far": {"stall": 0, "slow": 0, "memory_stall": 0, "latency": (10, 30), "errors": 0},
    "failing": {"stall": 0.2, "slow": 0.4, "memory_stall": 0.3, "latency": (1, 20), "errors": 0.2},
}


RUNS = [
    ("verilator", "small", "fast"),
    ("verilator", "small", "far"),
    ("verilator", "small", "failing"),
    ("icarus", "tiny", "failing"),
    ("icarus", "tiny", "fast"),
]


@pytest.mark.parametrize(
    ("simulator", "config", "case"), [run for run in RUNS if run[0] in SIMULATORS]
)
def test_bank(simulator: str, config: str, case: str) -> None:
    run_bench(
        Bank(CacheConfig(**CONFIGS[config])),
        module=__name__,
        simulator=simulator,
        parameters={"config": CONFIGS[config], **CASES[case]},
    )
