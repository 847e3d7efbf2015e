"""`LaneBanks` against a table of values."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.accumulate.lane_banks import LaneBanks
from loopnest_hw.config import LANES, PAIR, make_config
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CONFIG = make_config("shrunk", slots=5)
CYCLES = 400


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_lane_banks(simulator: str) -> None:
    run_bench(LaneBanks(CONFIG), module=__name__, simulator=simulator)


@cocotb.test()
async def reads_and_writes(dut: Any) -> None:
    """Both readers and the writer in each cycle; a read does not see a write of its own cycle."""
    rng = bench.rng()
    ports = Ports(dut, LaneBanks(CONFIG))
    await bench.start(dut)
    known: list[dict[int, int]] = [{} for _ in range(LANES)]
    found: list[int | None] = [None] * LANES
    checked = 0
    for _ in range(CYCLES):
        reads = [
            {"enable": rng.random() < 0.3, "slot": rng.randrange(CONFIG.slots)}
            for _ in range(LANES)
        ]
        writes = [
            {
                "enable": rng.random() < 0.5,
                "slot": rng.randrange(CONFIG.slots),
                "value": rng.getrandbits(32),
            }
            for _ in range(LANES)
        ]
        drain, following, second = (rng.getrandbits(LANES) for _ in range(3))
        slots = [[rng.randrange(CONFIG.slots) for _ in range(PAIR)] for _ in range(2)]
        ports["read"], ports["write"] = reads, writes
        ports["drain_banks"], ports["drain_following"] = drain, following
        ports["drain_second"], ports["drain_slot"] = second, slots
        await RisingEdge(dut.clk)
        for bank, value in enumerate(ports["value"]):
            if found[bank] is not None:
                assert value == found[bank], f"bank {bank}"
                checked += 1
        for bank, (read, write) in enumerate(zip(reads, writes, strict=True)):
            of_drain = slots[following >> bank & 1][second >> bank & 1]
            slot = read["slot"] if read["enable"] else of_drain
            reading = read["enable"] or drain >> bank & 1
            found[bank] = known[bank].get(int(slot)) if reading else None
            if write["enable"]:
                known[bank][int(write["slot"])] = int(write["value"])
    assert checked > CYCLES * LANES / 2
