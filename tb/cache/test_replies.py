"""`Replies`: every client gets every answer once."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.cache.geometry import CacheConfig, answer, reply
from loopnest_hw.cache.replies import LANE_STAGES, Replies
from tb.harness import bench, run_bench, runs
from tb.streams import decode, encode

SETTING = {"clients": 3, "slot_bits": 9, "banks": 8, "ports": 1, "lanes": 2}
CONFIG = CacheConfig(**SETTING)


class Banks:
    """Answers as the banks do, and checks what arrives at the clients.

    Parameters
    ----------
    idle : float
        Probability that a bank has no answer, in a cycle.
    several : float
        Probability that an answer is for any other client too.
    """

    def __init__(self, dut: Any, *, idle: float, several: float) -> None:
        self._dut = dut
        self._rng = bench.rng()
        self._idle = idle
        self._several = several
        self._waits = [0] * CONFIG.banks
        self._slots = [0] * CONFIG.clients
        self._since: list[dict[int, int]] = [{} for _ in range(CONFIG.clients)]
        self.expected: list[dict[int, dict[str, int]]] = [{} for _ in range(CONFIG.clients)]
        self.replies = [0] * CONFIG.clients
        self.longest = 0
        self.stopped = False
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut, rng = self._dut, self._rng
        while True:
            await RisingEdge(dut.clk)
            for c in range(CONFIG.clients):
                if int(getattr(dut, f"o__{c}__valid").value):
                    given = decode(reply(CONFIG), int(getattr(dut, f"o__{c}__payload").value))
                    assert self.expected[c].pop(given["slot"], None) == given
                    self.replies[c] += 1
                    waited = self.replies[c] - self._since[c].pop(given["slot"])
                    self.longest = max(self.longest, waited)
            for b in range(CONFIG.banks):
                taken = int(getattr(dut, f"taken__{b}").value)
                assert not taken & ~self._waits[b], "taken by one who does not wait"
                self._waits[b] &= ~taken
                if not self._waits[b] and not self.stopped and rng.random() >= self._idle:
                    self._next(b)
                getattr(dut, f"waits__{b}").value = self._waits[b]

    def _next(self, bank: int) -> None:
        first = self._rng.randrange(CONFIG.clients)
        clients = [
            c for c in range(CONFIG.clients) if c == first or self._rng.random() < self._several
        ]
        given = {"data": self._rng.getrandbits(256), "error": self._rng.getrandbits(1)}
        slots = [0] * CONFIG.clients
        for c in clients:
            slots[c] = self._slots[c]
            self._slots[c] = (self._slots[c] + 1) % (1 << CONFIG.slot_bits)
            self.expected[c][slots[c]] = given | {"slot": slots[c]}
            self._since[c][slots[c]] = self.replies[c]
        self._waits[bank] = sum(1 << c for c in clients)
        getattr(self._dut, f"i__{bank}").value = encode(answer(CONFIG), given | {"slot": slots})


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(load=[(0.0, 0.0), (0.0, 0.7), (0.8, 0.3)])
async def every_answer(dut: Any, load: tuple[float, float]) -> None:
    """All banks answer at once, one or several clients; or now and then."""
    idle, several = load
    await bench.start(dut)
    banks = Banks(dut, idle=idle, several=several)
    cycles = bench.count(300)
    await ClockCycles(dut.clk, cycles)
    if not idle:
        # more banks than clients: each client gets a reply in most cycles
        assert min(banks.replies) > 0.8 * cycles
    banks.stopped = True
    await ClockCycles(dut.clk, 60)
    assert not any(banks.expected)
    assert min(banks.replies) > cycles // 10
    assert banks.longest <= CONFIG.banks + (LANE_STAGES - 1) * CONFIG.lanes + 1
    dut._log.info("replies %s, waited for %d at most", banks.replies, banks.longest)


@pytest.mark.parametrize("simulator", [simulator for (simulator,) in runs([()], icarus=[()])])
def test_replies(simulator: str) -> None:
    run_bench(Replies(CONFIG), module=__name__, simulator=simulator)
