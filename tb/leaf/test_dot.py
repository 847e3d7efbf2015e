"""The dot leaf against the golden model, and that against additions one by one."""

import random
from itertools import product
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import DOT_RING, ChipConfig, NumberFormat, make_config
from loopnest_hw.descriptor import Reduction
from loopnest_hw.leaf.dot import Dot, dot_input, dot_output
from loopnest_sim.model.arith import add, wide_type, widen
from loopnest_sim.model.dot import dot, dot_fibers
from tb.arith.operands import SPECIAL_FLOATS, SPECIAL_INTEGERS
from tb.formal import prove_stream_law
from tb.harness import bench, run_bench, runs
from tb.streams import Sink, Source

SIDE = 10

STALLS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.3)]

STEPS = 400


def random_wide(rng: random.Random, fmt: NumberFormat) -> int:
    """Return the bits of a wide value: numbers for which the order of additions matters, and
    special ones.
    """
    if fmt is NumberFormat.INT8:
        raw = rng.choice(SPECIAL_INTEGERS) if rng.random() < 0.002 else rng.getrandbits(16)
    elif rng.random() < 0.02:
        raw = rng.choice(SPECIAL_FLOATS)
    else:
        exponent = rng.choice([125, 126, 127, 128, 130, 140])
        raw = rng.getrandbits(1) << 31 | exponent << 23 | rng.getrandbits(23)
    return int(widen(np.array(raw, np.uint32), fmt, True).view(np.uint32))


def random_steps(config: ChipConfig, rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Return whole fibers of ``count`` steps or more in all."""
    m = config.multipliers
    steps: list[dict[str, Any]] = []
    while len(steps) < count:
        # lengths near the number of partial sums, runs of fibers of one step, and long ones
        length = rng.choice([1, 1, 1, 1, rng.randint(1, 6), rng.randint(4, 30)])
        density = rng.choice([0.0, 0.3, 0.9, 1.0])
        for s in range(length):
            steps.append(
                {
                    "valid": sum((rng.random() < density) << n for n in range(m)),
                    "value": [random_wide(rng, config.dtype) for _ in range(m)],
                    "last": int(s == length - 1),
                    "side": rng.getrandbits(SIDE),
                }
            )
    return steps


def arrays(config: ChipConfig, steps: list[dict[str, Any]]) -> tuple[np.ndarray, ...]:
    """Return the steps' values, valid lanes and ends."""
    values = np.array([step["value"] for step in steps], np.uint32)
    valid = np.array([step["valid"] for step in steps])[:, None] >> np.arange(config.multipliers)
    last = np.array([step["last"] for step in steps])
    return values.view(wide_type(config.dtype)), (valid & 1).astype(np.bool_), last == 1


def reference(
    config: ChipConfig, steps: list[dict[str, Any]], reduction: Reduction
) -> tuple[list[dict[str, Any]], bool]:
    """Return `Dot`'s items of the steps, and the overflow."""
    sums, some, overflow = dot(*arrays(config, steps), config.dtype, reduction)
    sides = [step["side"] for step in steps if step["last"]]
    items = [
        {"any": int(has), "value": value, "side": side}
        for has, value, side in zip(some, sums.view(np.uint32).tolist(), sides, strict=True)
    ]
    return items, overflow


@cocotb.test()
async def fibers(dut: Any) -> None:
    """Fibers of all lengths, at several rates, for each reduction."""
    rng = bench.rng()
    config = make_config(**bench.parameters["config"])
    source = Source(dut, "i", dot_input(config, SIDE), rng)
    sink = Sink(dut, "o", dot_output(SIDE), rng)
    await bench.start(dut)
    done = 0
    for reduction, (source.stall, sink.stall) in product(Reduction, STALLS):
        dut.rst.value = 1
        dut.reduction.value = int(reduction)
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 1)
        steps = random_steps(config, rng, STEPS)
        expected, overflow = reference(config, steps, reduction)
        await source.send_all(steps)
        received = (await sink.wait_for(done + len(expected), idle=500))[done:]
        assert received == expected
        await ClockCycles(dut.clk, bench.parameters["latency"] + 2)
        assert int(dut.overflow.value) == int(overflow)
        if not source.stall and not sink.stall:
            # one step per cycle: items are as far apart as the ends of their fibers
            ends = [n for n, step in enumerate(steps) if step["last"]]
            assert sink.cycles[-1] - sink.cycles[done] == ends[-1] - ends[0]
        done += len(expected)
    assert len(sink.received) == done > 200


@pytest.mark.parametrize(
    ("simulator", "dtype", "multipliers"),
    runs([*product(("bf16", "int8"), (1, 4))], icarus=[("bf16", 1), ("int8", 4)]),
)
def test_dot(simulator: str, dtype: str, multipliers: int) -> None:
    """Both formats, without a lane tree and with one."""
    config = {"dtype": dtype, "multipliers": multipliers}
    component = Dot(make_config(**config), SIDE)
    parameters = {"config": config, "latency": component.latency}
    run_bench(component, module=__name__, simulator=simulator, parameters=parameters)


def test_stream_law() -> None:
    """The stream law of the output; the adders' width does not matter."""
    config = make_config(dtype="int8", multipliers=1)
    prove_stream_law(Dot(config, 1), outputs=["o"], inputs_assumed=["i"])


def one_by_one(config: ChipConfig, steps: list[dict[str, Any]]) -> list[Any]:
    """Return the fibers' sums, None without lanes, in the documented order of additions."""
    fmt = config.dtype
    sums: list[Any] = []

    def plus(a: Any, b: Any) -> Any:
        if a is None or b is None:
            return b if a is None else a
        return add(a, b, fmt)[0]

    def tree(terms: list[Any]) -> Any:
        if len(terms) == 1:
            return terms[0]
        return tree([plus(a, b) for a, b in zip(terms[0::2], terms[1::2], strict=True)])

    ring: list[Any] = [None] * DOT_RING
    s = 0
    for value, valid, last in zip(*arrays(config, steps), strict=True):
        step = tree([v if has else None for v, has in zip(value, valid, strict=True)])
        ring[s % DOT_RING] = plus(ring[s % DOT_RING], step)
        s += 1
        if last:
            sums.append(tree(ring))
            ring, s = [None] * DOT_RING, 0
    return sums


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("multipliers", [1, 2, 4, 8, 16])
def test_golden(dtype: str, multipliers: int) -> None:
    """The golden function against single additions."""
    config = make_config(dtype=dtype, multipliers=multipliers)
    steps = random_steps(config, random.Random(multipliers), 1500)
    sums, some, _ = dot(*arrays(config, steps), config.dtype)
    expected = one_by_one(config, steps)
    assert len(sums) == len(expected) > 100
    for total, has, right in zip(sums, some, expected, strict=True):
        assert has == (right is not None)
        assert total.tobytes() == (np.zeros_like(total) if right is None else right).tobytes()


def test_golden_long() -> None:
    """One long fiber among fibers without steps and short ones."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((3000, 1)).astype(np.float32)
    fiber = np.concatenate([[0, 2, 2], np.full(2990, 3), [5] * 7])
    valid = rng.random((3000, 1)) < 0.8
    sums, some, _ = dot_fibers(values, valid, fiber, 8, NumberFormat.BF16)
    chosen = fiber == 3
    alone, _, _ = dot_fibers(
        values[chosen], valid[chosen], np.zeros(2990, np.int64), 1, NumberFormat.BF16
    )
    ring = [np.float32(0)] * DOT_RING
    for s, (value, has) in enumerate(zip(values[chosen][:, 0], valid[chosen][:, 0], strict=True)):
        ring[s % DOT_RING] = ring[s % DOT_RING] + value if has else ring[s % DOT_RING]
    assert sums[3] == alone[0] == (ring[0] + ring[1]) + (ring[2] + ring[3])
    assert not some[[1, 4, 6, 7]].any()
