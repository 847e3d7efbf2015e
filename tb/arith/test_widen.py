"""Widening against the golden model."""

import random
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from loopnest_hw.arith.widen import Widen
from loopnest_hw.config import NumberFormat, make_config
from loopnest_sim.model.arith import negate, widen
from tb.arith.operands import SPECIAL_FLOATS, SPECIAL_INTEGERS, random_float


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_widen(dtype: str, negated: bool, wide: bool) -> None:
    """Special values in both halves of the word, and random ones."""
    rng = random.Random(1)
    fmt = NumberFormat(dtype)
    special = SPECIAL_FLOATS + SPECIAL_INTEGERS
    raw = np.array(
        [*special, *(x >> 16 for x in special), *(random_float(rng) for _ in range(500))], np.uint32
    )
    value = widen(raw, fmt, wide)
    overflow = np.zeros(len(raw), np.bool_)
    if negated:
        value, overflow = negate(value, fmt)
    unit = Widen(make_config(dtype=dtype))

    async def check(ctx: Any) -> None:
        ctx.set(unit.wide, int(wide))
        ctx.set(unit.negate, int(negated))
        for bits, expected, wraps in zip(
            raw.tolist(), value.view(np.uint32).tolist(), overflow.tolist(), strict=True
        ):
            ctx.set(unit.i, bits)
            await ctx.delay(1e-9)
            found = ctx.get(unit.o), ctx.get(unit.overflow)
            assert found == (expected, int(wraps)), f"{bits:08x}: {found}"

    simulator = Simulator(unit)
    simulator.add_testbench(check)
    simulator.run()
