"""How the lines of the pool are divided among the streams."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip
from loopnest.cost.lines import Burst
from loopnest.loops import streams
from loopnest.program.steps import KernelStep

CHIP = Chip("single", backend="model")


def sampled_product(seed):
    """Return the plan of `X = A * (c d)` at sparse places."""
    rng = np.random.default_rng(seed)
    a = sp.csr_array((rng.random((155, 112)) < 0.6) * 1.0)
    operands = {"A": a, "c": np.ones((155, 5)), "d": np.ones((5, 112))}
    statement = "X[i,j] = A[i,j] * c[i,k] * d[k,j]"
    found = CHIP.explain(statement, order="ijk", **operands).steps
    (step,) = (step for step in found if isinstance(step, KernelStep))
    return step.plan


def lengths(plan, **changes):
    rings = streams.share_pool(CHIP.config, plan.scanners, plan.expected, 0.0, **changes)
    assert rings[0][0] == 0 and rings[-1][1] == CHIP.config.pool_lines - 1
    assert all(first == last + 1 for (_, last), (first, _) in pairwise(rings))
    return [last - first + 1 for first, last in rings]


@pytest.mark.parametrize("lines", [20.0, 54.0, 1000.0])
def test_a_burst_gets_its_lines_where_that_takes_fewer_cycles(lines, monkeypatch):
    plan = sampled_product(1)
    values = 2 * CHIP.config.scanners + 2
    plan.expected.bursts.clear()
    for stage in plan.expected.stages:
        plan.expected.stages[stage] = 1000.0
    even = lengths(plan)
    plan.expected.bursts["values", 2] = Burst(fibers=155.0, share=0.8, lines=lines)
    found = lengths(plan)
    assert min(found) >= streams.MIN_LINES
    if lines == 54:
        assert even[values] < lines == found[values]
    else:  # it fits already, or is more than the pool has
        assert found == even
    cycles = sum(streams.ring_cycles(CHIP.config, plan.scanners, plan.expected, 100))
    monkeypatch.setattr(streams, "combinations", lambda some, n: [] if n else [()])
    assert lengths(plan) == even
    assert cycles <= sum(streams.ring_cycles(CHIP.config, plan.scanners, plan.expected, 100))
