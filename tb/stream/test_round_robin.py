"""`RoundRobin` against the rule: the first request after the last granted one."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.stream.round_robin import RoundRobin
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench

CYCLES = 1000


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("clients", [2, 5])
def test_round_robin(simulator: str, clients: int) -> None:
    if clients == 2 and simulator == "verilator":
        pytest.skip("left to the other simulator")
    run_bench(
        RoundRobin(clients),
        module=__name__,
        simulator=simulator,
        parameters={"clients": clients},
    )


@pytest.mark.parametrize("clients", [1, 2, 5])
def test_round_robin_proof(clients: int) -> None:
    """One grant at most, and to no other client twice while a request stays."""
    prove_stream_law(RoundRobin(clients), outputs=[])


@cocotb.test()
async def turns(dut: Any) -> None:
    """Every grant, for random requests of which not all grants are used."""
    rng = bench.rng()
    clients = bench.parameters["clients"]
    await bench.start(dut)
    last = clients - 1
    grants = [0] * clients
    for _ in range(CYCLES):
        requests = rng.getrandbits(clients) & rng.choice([rng.getrandbits(clients), -1])
        used = rng.getrandbits(1)
        dut.requests.value = requests
        dut.granted.value = used
        await RisingEdge(dut.clk)
        order = [(last + 1 + n) % clients for n in range(clients)]
        first = next((n for n in order if requests >> n & 1), None)
        assert int(dut.grant.value) == (0 if first is None else 1 << first)
        if used and first is not None:
            last = first
            grants[first] += 1
    assert min(grants) > CYCLES / 10 / clients
