"""`Crossbar` and its windows: every request reaches its bank once, with others of its line."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.cache.crossbar import BANK_STAGES, Crossbar
from loopnest_hw.cache.geometry import CacheConfig, bank_of, line_of, lookup, prefetch, request
from loopnest_hw.cache.window import Window
from tb.formal import prove_stream_law
from tb.harness import bench, run_bench, runs
from tb.streams import Sink, Source

SETTING = {"clients": 4, "slot_bits": 8, "banks": 4, "ports": 2, "lanes": 1, "line_bits": 16}
CONFIG = CacheConfig(**SETTING)
PORTS = range(CONFIG.ports)
COUNT = 200
"""Requests of a client, which have different slots."""


class Banks:
    """Receives groups, and checks that each request was sent, once, to its bank."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.sent: list[dict[int, int]] = [{} for _ in range(CONFIG.clients)]
        self.since: list[dict[int, int]] = [{} for _ in range(CONFIG.clients)]
        self.received = 0
        self.merged = 0
        self.longest = 0
        self.groups = [0] * CONFIG.banks
        self.prefetched: list[int] = []
        self.sinks = [
            Sink(dut, f"o__{b}", lookup(CONFIG), bench.rng(), stall=stall, check=self._checker(b))
            for b in range(CONFIG.banks)
        ]

    def _checker(self, bank: int) -> Any:
        def check(item: dict[str, Any]) -> None:
            line = line_of(CONFIG, bank, item["upper"])
            mask = item["group"]["mask"]
            if not mask:
                self.prefetched.append(line)
                return
            self.groups[bank] += 1
            self.merged += mask.bit_count() - 1
            for client in range(CONFIG.clients):
                if mask >> client & 1:
                    slot = item["group"]["slot"][client]
                    assert self.sent[client].pop(slot, None) == line, f"{client}, {slot}"
                    waited = self.groups[bank] - self.since[client].pop(slot)
                    self.longest = max(self.longest, waited)
                    self.received += 1

        return check

    def send(self, client: int, slot: int, line: int) -> None:
        """Take note of a request."""
        self.sent[client][slot] = line
        self.since[client][slot] = self.groups[bank_of(CONFIG, line)]


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(timing=[(0.0, 0.0), (0.0, 0.6), (0.7, 0.0)])
async def every_request(dut: Any, timing: tuple[float, float]) -> None:
    """Random lines, of which some are requested by several clients at once."""
    rng = bench.rng()
    await bench.start(dut)
    stall, slow = timing
    banks = Banks(dut, slow)
    lines = [rng.randrange(1 << CONFIG.line_bits) for _ in range(12)]
    count = bench.count(COUNT)

    async def client(c: int) -> None:
        source = Source(dut, f"i__{c}", request(CONFIG), bench.rng(), stall=stall)
        for slot in range(count):
            line = lines[0] if rng.random() < 0.2 else rng.choice(lines)
            banks.send(c, slot, line)
            await source.send({"line": line, "slot": slot})

    ahead = [[rng.randrange(1 << CONFIG.line_bits) for _ in range(40)] for _ in PORTS]
    ahead = [[line & -CONFIG.ports | port for line in ahead[port]] for port in PORTS]
    for port in PORTS:
        source = Source(dut, f"prefetch__{port}", prefetch(CONFIG), bench.rng(), stall=stall)
        cocotb.start_soon(source.send_all({"line": line} for line in ahead[port]))
    tasks = [cocotb.start_soon(client(c)) for c in range(CONFIG.clients)]
    for task in tasks:
        await task
    while banks.received < CONFIG.clients * count:
        await RisingEdge(dut.clk)
    while len(banks.prefetched) < sum(map(len, ahead)):
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 20)
    assert banks.received == CONFIG.clients * count and not any(banks.sent)
    assert sorted(banks.prefetched) == sorted(line for lines in ahead for line in lines)
    assert banks.merged > count // 20
    # an older request of the same client goes first; each waits for one of every other client
    assert banks.longest <= CONFIG.window * CONFIG.clients + BANK_STAGES
    dut._log.info("%d merged, waited for %d groups at most", banks.merged, banks.longest)


@cocotb.test(timeout_time=10, timeout_unit="us")
async def one_bank_stands_still(dut: Any) -> None:
    """Requests pass those of a bank that takes none, as long as a place of the window is free."""
    await bench.start(dut)
    banks = Banks(dut, 0.0)
    lines = [[n for n in range(1 << 10) if bank_of(CONFIG, n) == b] for b in range(CONFIG.banks)]
    banks.sinks[0].stall = 1.0
    await ClockCycles(dut.clk, 2)
    source = Source(dut, "i__1", request(CONFIG), bench.rng())
    # so many are in the queue before the bank, the others stay in the window
    blocked = BANK_STAGES + CONFIG.window - 1
    for slot in range(blocked):
        banks.send(1, slot, lines[0][slot])
        await source.send({"line": lines[0][slot], "slot": slot})
    for slot in range(blocked, blocked + 60):
        line = lines[1 + slot % 3][slot]
        banks.send(1, slot, line)
        await source.send({"line": line, "slot": slot})
    # nor is it a conflict if another client's request waits for that bank too
    banks.send(0, 0, lines[0][100])
    await Source(dut, "i__0", request(CONFIG), bench.rng()).send({"line": lines[0][100], "slot": 0})
    await ClockCycles(dut.clk, 10)
    assert banks.received == 60
    assert int(dut.waits.value) == 0b11 and not int(dut.conflicts.value)
    banks.sinks[0].stall = 0.0
    await ClockCycles(dut.clk, 20)
    assert banks.received == 60 + blocked + 1 and not int(dut.waits.value)


@cocotb.test(timeout_time=10, timeout_unit="us")
async def clients_go_first(dut: Any) -> None:
    """A line to prefetch waits as long as a client wants its bank, and no longer; those of the
    other port, and other banks, are not concerned.
    """
    await bench.start(dut)
    banks = Banks(dut, 0.0)
    lines = [[n for n in range(1 << 10) if bank_of(CONFIG, n) == b] for b in range(CONFIG.banks)]
    source = Source(dut, "i__0", request(CONFIG), bench.rng())
    wanted = lines[0][:20]
    for slot, line in enumerate(wanted):
        banks.send(0, slot, line)
    requests = ({"line": line, "slot": slot} for slot, line in enumerate(wanted))
    cocotb.start_soon(source.send_all(requests))
    await ClockCycles(dut.clk, 4)
    for port in PORTS:
        ahead = Source(dut, f"prefetch__{port}", prefetch(CONFIG), bench.rng())
        cocotb.start_soon(ahead.send({"line": lines[port][50]}))
    await ClockCycles(dut.clk, 10)
    assert banks.prefetched == [lines[1][50]]
    await ClockCycles(dut.clk, 15)
    assert banks.prefetched == [lines[1][50], lines[0][50]] and banks.received == len(wanted)


@cocotb.test(timeout_time=10, timeout_unit="us")
async def conflicts(dut: Any) -> None:
    """Of requests of other lines at one bank, all but one wait; those of other banks do not."""
    await bench.start(dut)
    banks = Banks(dut, 0.0)
    lines = [[n for n in range(1 << 10) if bank_of(CONFIG, n) == b] for b in range(CONFIG.banks)]
    wanted = [lines[0][0], lines[0][1], lines[0][2], lines[1][0]]
    for c, line in enumerate(wanted):
        banks.send(c, 0, line)
        source = Source(dut, f"i__{c}", request(CONFIG), bench.rng())
        cocotb.start_soon(source.send({"line": line, "slot": 0}))
    found = []
    for _ in range(20):
        await RisingEdge(dut.clk)
        found.append(int(dut.conflicts.value))
        assert int(dut.waits.value) == found[-1]
    assert banks.received == len(wanted)
    counts = [n.bit_count() for n in found if n]
    assert counts == [2, 1] and not any(n >> 3 for n in found)


@cocotb.test(timeout_time=10, timeout_unit="us")
async def one_line(dut: Any) -> None:
    """All clients request one line, each in every cycle: one lookup a cycle serves all."""
    await bench.start(dut)
    banks = Banks(dut, 0.0)
    for c in range(CONFIG.clients):
        source = Source(dut, f"i__{c}", request(CONFIG), bench.rng())
        for slot in range(100):
            banks.send(c, slot, 77)
        cocotb.start_soon(source.send_all({"line": 77, "slot": slot} for slot in range(100)))
    await ClockCycles(dut.clk, 105)
    assert banks.received == 100 * CONFIG.clients
    assert sum(banks.groups) == 100


@pytest.mark.parametrize("simulator", [simulator for (simulator,) in runs([()], icarus=[()])])
def test_crossbar(simulator: str) -> None:
    run_bench(Crossbar(CONFIG), module=__name__, simulator=simulator)


def test_window_proof() -> None:
    """No request is lost or doubled in the window, and each one that is held is offered."""
    prove_stream_law(Window(CONFIG), outputs=[], inputs_assumed=["i"])
