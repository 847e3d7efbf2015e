"""`Fill` on a table of values, against the sums term by term."""

import random
from collections import deque
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.accumulate.fill import BEFORE, Fill
from loopnest_hw.config import LANES, ChipConfig, NumberFormat, make_config
from loopnest_hw.descriptor import Reduction
from loopnest_hw.tokens import StageState, terms
from loopnest_sim.model.arith import reduce_pair, wide_type, widen
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports
from tb.streams import Source

STEPS = 250


def configuration() -> ChipConfig:
    """Return the bench's configuration."""
    return make_config("shrunk", bench.parameters["dtype"], slots=5)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("dtype", ["int8", "bf16"])
def test_fill(simulator: str, dtype: str) -> None:
    if dtype != {"verilator": "int8", "icarus": "bf16"}[simulator]:
        pytest.skip("left to the other simulator")
    config = make_config("shrunk", dtype, slots=5)
    run_bench(Fill(config), module=__name__, simulator=simulator, parameters={"dtype": dtype})


def random_value(rng: random.Random, fmt: NumberFormat) -> int:
    """Return the bits of a wide value."""
    if fmt is NumberFormat.INT8:
        return rng.choice([rng.getrandbits(32), rng.randrange(1 << 20)])
    return int(np.float32(rng.uniform(-100, 100)).view(np.uint32))


class Sums:
    """The expected contents of each lane of each slot."""

    def __init__(self, fmt: NumberFormat, reduction: Reduction) -> None:
        self._fmt = fmt
        self._reduction = reduction
        self.held: dict[tuple[int, int], Any] = {}
        self.overflow = False

    def take(self, place: tuple[int, int], value: int, first: bool) -> int:
        """Store or add a term, and return the resulting bits."""
        new = widen(np.array([value], np.uint32), self._fmt, wide=True)
        new = new.astype(wide_type(self._fmt))
        if not first:
            new, overflow = reduce_pair(self.held[place], new, self._reduction, self._fmt)
            self.overflow |= bool(overflow[0])
        self.held[place] = new
        return int(new.view(np.uint32)[0])


def random_step(rng: random.Random, config: ChipConfig, sums: Sums, slots: int) -> dict[str, Any]:
    """Return a step with terms in different lanes; those of new places are first ones."""
    m = config.multipliers
    index = rng.sample(range(LANES if slots > 1 else m + 1), m)
    place = [rng.randrange(slots) for _ in range(m)]
    valid = rng.choice([(1 << m) - 1, rng.getrandbits(m)])
    first = sum(
        ((p, i) not in sums.held) << n for n, (p, i) in enumerate(zip(place, index, strict=True))
    )
    return {
        "valid": valid,
        "value": [random_value(rng, config.dtype) for _ in range(m)],
        "index": index,
        "place": place,
        "first": first | rng.getrandbits(m) & rng.getrandbits(m) & rng.getrandbits(m),
        "fiber": rng.getrandbits(32),
        "end": rng.random() < 0.2,
        "final": rng.getrandbits(1),
    }


@cocotb.test()
@cocotb.parametrize(
    # slots in use, stall probabilities of the steps and of the reads, and the reduction
    traffic=[
        (5, 0.0, 0.0, Reduction.SUM),
        (1, 0.0, 0.0, Reduction.SUM),
        (2, 0.5, 0.1, Reduction.SUM),
        (1, 0.2, 0.0, Reduction.MAX),
    ]
)
async def sums(dut: Any, traffic: tuple[int, float, float, Reduction]) -> None:
    """Every write, in order; reads only of free lanes; the ends; and the terms in flight.

    Slots are reused for first terms, and so may be read while they are written.
    """
    slots, stall, reserved_pace, reduction = traffic
    config = configuration()
    fmt = config.dtype
    rng = bench.rng()
    ports = Ports(dut, Fill(config))
    source = Source(dut, "terms", terms(config), bench.rng(), stall)
    await bench.start(dut)
    ports["reduction"] = reduction
    model = Sums(fmt, reduction)
    banks: dict[tuple[int, int], int] = {}
    steps = []
    # in order: each step's writes by lane, and whether a fiber ends with it
    writes: deque[tuple[dict[int, tuple[int, int]], bool]] = deque()
    ends: deque[dict[str, Any]] = deque()
    overflows = []
    for _ in range(STEPS):
        step = random_step(rng, config, model, slots)
        model.overflow = False
        written = {}
        for n in range(config.multipliers):
            if step["valid"] >> n & 1:
                place = (step["place"][n], step["index"][n])
                value = model.take(place, step["value"][n], bool(step["first"] >> n & 1))
                written[place[1]] = (place[0], value)
        overflows.append(model.overflow)
        writes.append((written, step["end"]))
        steps.append(step)
        if step["end"]:
            ends.append(step)
    filled_due = len(ends)
    sending = cocotb.start_soon(source.send_all(steps))

    found: list[int | None] = [None] * LANES
    going: deque[int] = deque()  # the steps in flight, by the cycle in which they entered
    accepted = busy = filled = done = overflowed = 0
    latency = BEFORE + fmt.add_latency
    cycle = 0
    while writes:
        reserved = sum((rng.random() < reserved_pace) << lane for lane in range(LANES))
        ports["reserved"] = reserved
        ports["expecting"] = expecting = rng.getrandbits(1)
        value = [rng.getrandbits(32) if v is None else v for v in found]
        ports["value"] = value
        await RisingEdge(dut.clk)
        state = StageState(ports["state"])
        if accepted == busy:
            assert state is (StageState.STARVED if expecting else StageState.IDLE)
        else:
            assert state in (StageState.BUSY, StageState.STALLED)
        reads = {lane: r["slot"] for lane, r in enumerate(ports["read"]) if r["enable"]}
        adds = {}
        if state is StageState.BUSY:
            step = steps[busy]
            for n in range(config.multipliers):
                if step["valid"] >> n & 1 and not step["first"] >> n & 1:
                    adds[step["index"][n]] = step["place"][n]
            going.append(cycle)
            busy += 1
        assert reads == adds
        assert not any(reserved >> lane & 1 for lane in reads)
        found = [banks.get((lane, reads[lane])) if lane in reads else None for lane in range(LANES)]
        accepted += ports["terms__valid"] & ports["terms__ready"]
        # ends
        if ports["ended"]:
            end = ends.popleft()
            assert state is StageState.BUSY
            assert ports["fiber"] == end["fiber"] and ports["ends_nest"] == end["final"]
        # writes: all of a step in one cycle, with constant latency
        put = {
            lane: (w["slot"], w["value"]) for lane, w in enumerate(ports["write"]) if w["enable"]
        }
        ended = False
        if going and cycle - going[0] == latency:
            expected, ended = writes.popleft()
            assert put == expected, f"cycle {cycle}"
            going.popleft()
            assert ports["overflow"] == overflows[done]
            overflowed += overflows[done]
            done += 1
        else:
            assert not put and not ports["overflow"]
        assert ports["filled"] == ended
        filled += ended
        for lane, (slot, what) in put.items():
            banks[lane, slot] = what
        cycle += 1
        assert cycle < 20 * STEPS
    await sending
    assert busy == done == STEPS and filled == filled_due and not ends and not going
    assert bool(overflowed) == (fmt is NumberFormat.INT8 and reduction is Reduction.SUM)
    if slots > 1 and not stall and fmt is NumberFormat.INT8:
        assert cycle < STEPS + 20
