"""`Waiters`: lists that grow while they wait and while they are replayed."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge

from loopnest_hw.cache.geometry import CacheConfig
from loopnest_hw.cache.waiters import Waiters, arrival, replay, waiter
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import decode, encode

SETTING = {"clients": 2, "slot_bits": 6, "banks": 2, "ports": 1, "sets": 4, "ways": 2, "lanes": 1}
CYCLES = 1200


class Lists:
    """The golden function: lists in the order of their arrival, each in the order of joining."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[tuple[int, int]]] = {}
        """Numbers and contents of each list that has not arrived, by its first number."""
        self.arrived: list[tuple[int, list[tuple[int, int]]]] = []
        """The others, with their errors; the first one is being replayed."""

    def all(self) -> list[list[tuple[int, int]]]:
        """Return all lists."""
        return [*self.waiting.values(), *(items for _, items in self.arrived)]

    def used(self) -> set[int]:
        """Return the numbers in use."""
        return {number for items in self.all() for number, _ in items}


def draw(rng: random.Random, config: CacheConfig) -> int:
    """Return the bits of a random waiter."""
    return rng.getrandbits(waiter(config).size)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(load=[(0.9, 0.9, 0.9), (0.5, 0.2, 0.9), (0.9, 0.9, 0.3)])
async def lists_grow(dut: Any, load: tuple[float, float, float]) -> None:
    """Probabilities of taking a waiter, of an arrival and of a replay in a cycle."""
    takes, arrives, replays = load
    config = CacheConfig(**bench.parameters["config"])
    rng = bench.rng()
    await bench.start(dut)
    lists = Lists()
    was_valid = False
    replayed = joined_late = 0
    for _ in range(bench.count(CYCLES)):
        await FallingEdge(dut.clk)
        valid = bool(int(dut.o__valid.value))
        done = valid and was_valid and rng.random() < replays
        was_valid = valid and not done
        dut.o__ready.value = int(done)
        before = lists.arrived[0][1] if lists.arrived else []
        if done:
            item = decode(replay(config), int(dut.o__payload.value))
            error, items = lists.arrived[0]
            number, content = items.pop(0)
            assert (item["number"], item["error"]) == (number, error)
            assert encode(waiter(config), item["waiter"]) == content
            dut.last.value = int(not items)
            replayed += 1
            if not items:
                lists.arrived.pop(0)

        take = not done and bool(int(dut.some.value)) and rng.random() < takes
        dut.take.value = int(take)
        if take:
            free = int(dut.free.value)
            assert free not in lists.used()
            content = draw(rng, config)
            dut.content.value = content
            growing = [items for items in lists.all() if items]
            join = bool(growing) and rng.random() < 0.6
            dut.join.value = int(join)
            if join:
                items = rng.choice([*growing, before] if before else growing)
                joined_late += items is before
                dut.behind.value = items[-1][0]
                items.append((free, content))
            else:
                lists.waiting[free] = [(free, content)]

        heads = [head for head in lists.waiting if not take or head != free]
        arrive = bool(heads) and rng.random() < arrives
        dut.arrive__valid.value = int(arrive)
        if arrive:
            head = rng.choice(heads)
            error = rng.getrandbits(1)
            lists.arrived.append((error, lists.waiting.pop(head)))
            value = {"number": head, "error": error}
            dut.arrive__payload.value = encode(arrival(config), value)
    assert replayed > bench.count(CYCLES) // 12
    assert joined_late > bench.count(CYCLES) // 100
    dut._log.info("%d replayed, %d joined during the replay", replayed, joined_late)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_waiters(simulator: str) -> None:
    config = SETTING | {"waiters": 16 if simulator == "verilator" else 4}
    run_bench(
        Waiters(CacheConfig(**config)),
        module=__name__,
        simulator=simulator,
        parameters={"config": config},
    )
