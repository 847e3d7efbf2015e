"""`SnapshotWriter`: the lines of the counters, in order, and nothing after a stop."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.chip.snapshot import SnapshotWriter
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.registers import snapshot_lines
from loopnest_hw.tokens import LINE_WRITE
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import decode

SETTLED = 2
"""Cycles that the counters need."""

CYCLES = 80
STARTS = 60


@cocotb.test()
async def snapshots(dut: Any) -> None:
    """The bus accepts a line in some cycles; some are given up."""
    rng, stall = bench.rng(), bench.parameters["stall"]
    lines = snapshot_lines(bench.parameters["pes"])
    contents = [rng.getrandbits(256) for _ in range(lines)]
    dut.start.value = dut.stop.value = dut.o__ready.value = dut.content.value = 0
    await bench.start(dut)
    for trial in range(STARTS):
        line = rng.choice((0, 1, (1 << 27) - lines, rng.getrandbits(26)))
        stop = rng.randrange(1, 12) if trial % 4 == 3 else CYCLES
        wanted = [
            {"line": line + n, "data": content, "strobe": (1 << LINE_BYTES) - 1}
            for n, content in enumerate(contents if line else [])
        ]
        received = []
        waiting: dict[str, int] | None = None
        for cycle in range(CYCLES):
            dut.start.value, dut.stop.value = int(cycle == 0), int(cycle == stop)
            # the address counts in the first cycle only
            dut.address.value = LINE_BYTES * line if cycle == 0 else rng.getrandbits(32)
            ready = int(rng.random() >= stall and cycle != stop)
            dut.o__ready.value = ready
            await FallingEdge(dut.clk)
            dut.content.value = contents[int(dut.number.value) % lines]
            await RisingEdge(dut.clk)
            if int(dut.o__valid.value):
                assert SETTLED <= cycle <= stop
                item = decode(LINE_WRITE, int(dut.o__payload.value))
                assert waiting in (None, item)
                waiting = None if ready else item
                received += [item] if ready else []
                if not stall and cycle != stop:
                    assert len(received) == cycle - SETTLED + 1
            else:
                assert waiting is None or cycle > stop
        assert not int(dut.busy.value)
        assert received == (wanted if stop == CYCLES else wanted[: len(received)])


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("pes", [1, 3])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_snapshot(simulator: str, pes: int, stall: float) -> None:
    run_bench(
        SnapshotWriter(make_config("shrunk", pes=pes)),
        module=__name__,
        simulator=simulator,
        parameters={"pes": pes, "stall": stall},
    )
