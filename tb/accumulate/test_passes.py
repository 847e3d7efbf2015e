"""`Passes` against sets of dropped blocks."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.accumulate.passes import Passes
from loopnest_hw.accumulate.place import BANKS
from loopnest_hw.config import make_config
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

CONFIG = make_config("shrunk", fibers_in_flight=4)
BLOCKS = 1 << 16
CYCLES = 3000


def block(number: int) -> dict[str, int]:
    """Return a block's coordinate as the layout has it."""
    return {"bank": number % BANKS, "word": number // BANKS}


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_passes(simulator: str) -> None:
    run_bench(Passes(CONFIG), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(replayable=[1, 0])
async def passes(dut: Any, replayable: int) -> None:
    """The bounds in every cycle, for random drops, evictions and ends."""
    rng = bench.rng()
    ports = Ports(dut, Passes(CONFIG))
    await bench.start(dut)
    ports["replayable"] = replayable
    lower = later = 0
    further = epoch = error = moving = False
    upper: tuple[int, int] | None = None
    dropped: set[int] = set()
    replays = bounds = ends = errors = 0
    for cycle in range(CYCLES):
        # the first error hides all others
        reset = not replayable and cycle % 40 == 39
        dut.rst.value = reset
        context = rng.randrange(2 * CONFIG.fibers_in_flight)
        # After a replay starts, until its bound has moved, everything is stale.
        go = rng.random() < 0.7
        decides = go and not moving
        pair = sorted(rng.sample(range(1 << rng.randrange(3, 17)), 2))
        drop = rng.choice([0, 0, 0, 0b01, 0b10, 0b11]) if decides or not go else 0
        end = rng.random() < 0.2 and (decides or not go)
        limit = min([BLOCKS, *dropped])
        bounded = not go and not moving and limit > 0 and rng.random() < 0.5
        bound = rng.randrange(limit) if bounded else rng.randrange(BLOCKS)
        ports["go"], ports["drop"], ports["end"], ports["context"] = go, drop, end, context
        ports["block"] = [block(number) for number in pair]
        ports["bounded"], ports["bound"] = bounded, block(bound)

        if go:
            dropped |= {number for n, number in enumerate(pair) if drop >> n & 1}
        end &= go
        replay = bool(end and dropped and replayable)
        await RisingEdge(dut.clk)
        assert ports["lower"] == block(lower)
        assert ports["further"] == further
        assert ports["moving"] == moving
        assert ports["epoch"] == epoch
        assert ports["error"] == error
        assert ports["replay"] == replay
        assert ports["upper_valid"] == (upper is not None)
        if upper is not None:
            assert (ports["upper"], ports["upper_context"]) == (block(upper[0]), upper[1])

        if moving:
            lower = later
        moving = replay
        if bounded:
            dropped.add(bound)
            upper = (bound, context)
            bounds += 1
        if end:
            error |= bool(dropped) and not replayable
            further = replay
            epoch ^= replay
            if replay:
                later = min(dropped)
                replays += 1
            else:
                lower = 0
            dropped.clear()
            upper = None
            ends += 1
        if reset:
            errors += error
            lower, further, epoch, error, moving, upper = 0, False, False, False, False, None
            dropped.clear()
    assert ends > CYCLES / 10
    assert bounds > CYCLES / 100
    assert (errors > CYCLES / 100) == (not replayable)
    assert (replays > CYCLES / 20) == replayable
