"""The cost model against the chip: what it picks, and what it expects."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Memory
from loopnest.benchmarks.drawn import draw
from loopnest.benchmarks.picks import FACTOR, run_pick
from loopnest.expression.expected import in_order
from loopnest.expression.operand import Operand
from loopnest.expression.parser import parse
from loopnest.kernel.lists import single
from loopnest.kernel.lower import lower
from loopnest.kernel.readback import read_result
from loopnest.loops.plan import default_levels
from loopnest.loops.planner import make_plan
from loopnest.program.steps import pack_operands
from loopnest.report.report import make_report
from loopnest_hw.config import LANES

from .chips import Pair, on

SEED = 2

COUNT = 5


@on("single/bf16")
def test_random_statements(pair: Pair) -> None:
    """The order picked is nearly the fastest, and takes about what is expected."""
    chip = pair.chip()
    for drawn in draw(chip, COUNT, SEED):
        pick = run_pick(chip, drawn)
        assert pick.right, pick
        assert pick.met, pick


@on("single/bf16")
@pytest.mark.parametrize(("long", "short"), [(19, 1), (19, 4), (4, 4)])
@pytest.mark.parametrize(
    "right", ["A[i,j] * B[i,j]", "B[i,j] where not A[i,j]", "B[i,j] * (A[i,j] + D[i,j])"]
)
def test_fibers_that_skip_blocks(pair: Pair, right: str, long: int, short: int) -> None:
    """Each fiber of A has so many blocks at random places, and those of B and D so many."""
    rng = np.random.default_rng(0)

    def matrix(words: int) -> sp.csr_array:
        block = np.concatenate([rng.choice(22, words, replace=False) for _ in range(40)])
        at = np.repeat(np.arange(40), words), LANES * block + rng.integers(0, LANES, len(block))
        return sp.csr_array((np.ones(len(block)), at), (40, 22 * LANES))

    chip = pair.chip(Memory(latency=1))
    operands = {"A": matrix(long), "B": matrix(short)}
    operands |= {"D": matrix(short)} if "D" in right else {}
    (plan,) = chip.explain(f"Y[i,j] = {right}", order="ij", **operands).plans
    chip.compute(f"Y[i,j] = {right}", order="ij", **operands)
    assert chip.report is not None
    assert plan.cycles == pytest.approx(chip.report.cycles, rel=0.2)


@on("single/bf16")
@pytest.mark.parametrize("latency", [4, 100])
@pytest.mark.parametrize(
    ("shape", "filled"),
    [
        pytest.param((4096, 200, 1000), 100, id="empty rows"),
        pytest.param((60, 200, 1 << 17), 50, id="wide"),
    ],
)
def test_hyper_sparse_products(
    pair: Pair, shape: tuple[int, int, int], filled: int, latency: int
) -> None:
    """`Chip.compute` leaves out rows and columns that nothing stores; here, they are visited."""
    rng = np.random.default_rng(5)
    rows, inner, columns = shape
    i = rng.choice(rows, filled, replace=False)
    A = sp.csr_array((np.ones(filled), (i, rng.integers(0, inner, filled))), (rows, inner))
    k = np.repeat(np.arange(inner), 2)
    j = rng.integers(0, columns, len(k))
    B = sp.csr_array((np.ones(len(k)), (k, j)), (inner, columns))
    chip = pair.chip(Memory(latency=latency))
    statement = parse("C[i,j] = A[i,k] * B[k,j]")
    operands = [Operand(name, source, chip.config.dtype) for name, source in (("A", A), ("B", B))]
    plan = make_plan(
        chip.config, statement, operands, order="ikj", compressed=True, latency=latency
    )
    kernel = lower(chip.config, plan, pack_operands(plan, operands))
    levels = default_levels(statement, operands)
    (counters,), result = chip.device.shared.run(
        lambda backend: (
            backend.run(single(kernel)),
            read_result(kernel, chip.config.dtype, backend.read, *in_order(levels)),
        )
    )
    assert (result.to_scipy() != A @ B).nnz == 0
    report = make_report(chip.config, chip.memory, kernel, counters)
    assert plan.sizes == {"i": rows, "k": inner, "j": columns}
    assert report.passes == 0
    assert report.cycles is not None
    assert 1 / FACTOR < plan.cycles / report.cycles < FACTOR
