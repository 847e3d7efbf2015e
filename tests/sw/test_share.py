"""The descriptor's ``share`` fields, by the work that a coordinate leads to."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip
from loopnest.expression.virtual import QUANTA
from loopnest.formats.pack import COMPRESSED
from loopnest.kernel.share import share_fields
from loopnest_sim.model.ones import ones

CHIP = Chip("large", backend="model")


def fields(statement: str, order: str, **operands: Any) -> tuple[int, int]:
    """Return quantum and credit; 0 if the PEs do not share the kernel."""
    found = all_fields(statement, order, **operands)
    return found.get("share.quantum", 0), found.get("share.credit", 0)


def all_fields(statement: str, order: str, **operands: Any) -> dict[str, int]:
    (plan,) = CHIP.explain(statement, order=order, **operands).plans
    return share_fields(CHIP.config, plan)


def drawn(rows: int, columns: int, each: int) -> sp.csr_array:
    """Return a matrix with so many entries in each row."""
    rng = np.random.default_rng(1)
    at = np.concatenate([np.sort(rng.choice(columns, each, replace=False)) for _ in range(rows)])
    return sp.csr_array((np.ones(len(at)), at, np.arange(0, len(at) + 1, each)), (rows, columns))


MATMUL = "C[i,j] = A[i,k] * B[k,j]"
SPMV = "y[i] = A[i,j] * x[j]"


def test_a_dense_row_goes_alone() -> None:
    """And a PE gets the next one while it works on it."""
    A, B = np.ones((100, 64)), np.ones((64, 64))
    assert fields(MATMUL, "ikj", A=A, B=B) == (1, 2)
    assert fields(SPMV, "ij", A=np.ones((100, 512)), x=np.ones(512)) == (1, 8)


def test_short_rows_go_together() -> None:
    A = drawn(400, 400, 3)
    assert fields(SPMV, "ij", A=A, x=np.ones(400)) == (32, 192)
    assert fields(MATMUL, "ikj", A=A, B=A) == (8, 96)


@pytest.mark.parametrize("each", [2, 5, 20, 80])
def test_wide_results(each: int) -> None:
    """Each entry leads to a row of 64 columns, 16 steps."""
    A = drawn(200, 5000, each)
    quantum, credit = fields(MATMUL, "ikj", A=A, B=np.ones((5000, 64)))
    words = len(np.unique(A.indices // 16 + 5000 * np.repeat(np.arange(200), each))) / 200
    steps = 16 * each / words
    assert quantum == (1 if words * steps >= 64 else -(-64 // steps))
    assert credit == pytest.approx(min(96, max(2 * words, 1024 / steps)), abs=1)


def test_rows_of_different_weights() -> None:
    """A PE gets a further row before it ends one of those on which it spends its time."""
    light, heavy = drawn(380, 2000, 2), drawn(20, 2000, 20)
    B = np.ones((2000, 256))
    _, of_light = fields(MATMUL, "ikj", A=light, B=B)
    _, of_both = fields(MATMUL, "ikj", A=sp.csr_array(sp.vstack([light, heavy])), B=B)
    assert of_light == 16  # 1,024 steps, 64 an entry
    assert of_both == pytest.approx(2 * (380 * 2**2 + 20 * 19**2) / (380 * 2 + 20 * 19), rel=0.1)


def test_rows_heavier_than_the_limits() -> None:
    assert fields(SPMV, "ij", A=np.ones((40, 8000)), x=np.ones(8000)) == (1, 2)
    assert fields(SPMV, "ij", A=drawn(40, 8000, 6000), x=np.ones(8000)) == (1, 192)
    assert fields(MATMUL, "ikj", A=drawn(20, 2000, 1500), B=np.ones((2000, 64))) == (1, 96)


def test_empty_rows_weigh_nothing() -> None:
    """Of a level that stores no empty rows, nor of a matrix of no rows."""
    A = drawn(400, 5000, 20)
    many = sp.csr_array(sp.kron(A, [[1], *[[0]] * 49]))
    levels = (COMPRESSED, COMPRESSED)
    B = np.ones((5000, 64))
    kept = [fields(MATMUL, "ikj", A=CHIP.tensor(m, levels=levels), B=B) for m in (A, many)]
    assert kept[0] == kept[1] == (1, 62)
    empty = fields(MATMUL, "ikj", A=sp.csr_array((0, 40)), B=np.ones((40, 64)))
    assert empty == fields(MATMUL, "ikj", A=sp.csr_array((30, 40)), B=np.ones((40, 64)))


def test_counts_that_are_forgotten() -> None:
    """The entries of a model's weights are dropped before its kernels are laid out."""
    A = sp.csr_array(sp.vstack([drawn(380, 2000, 2), drawn(20, 2000, 20)]))
    (plan,) = CHIP.explain(MATMUL, order="ikj", A=A, B=np.ones((2000, 256))).plans
    before = share_fields(CHIP.config, plan)
    for operand in plan.operands:
        operand.forget_counts()
    assert share_fields(CHIP.config, plan) == before


def test_steps_of_four_lanes_are_no_more_than_a_chunk() -> None:
    for each, wide in ((2, True), (6, True), (12, False)):
        found = all_fields(SPMV, "ij", A=drawn(400, 5000, each), x=np.ones(5000))
        assert bool(found["share.wide"]) is wide
    dense = all_fields(SPMV, "ij", A=drawn(400, 128, 120), x=np.ones(128))
    assert not dense["share.wide"] and dense["share.quantum"] < 32


def test_a_nest_that_is_not_shared() -> None:
    assert fields("y[j] = A[i,j] * x[i]", "ij", A=np.ones((9, 9)), x=np.ones(9)) == (0, 0)


def turns(statement: str, order: str, chip: Chip = CHIP, **operands: Any) -> dict[str, int]:
    """Return the ``share`` fields of the first of the kernels for a matrix with heavy rows, and the
    virtual rows.
    """
    plan, _ = chip.explain(statement, order=order, **operands).plans
    return share_fields(chip.config, plan) | {"virtual": plan.operands[0].virtual}


def with_a_full_row(rows: int, columns: int) -> sp.csr_array:
    A = drawn(rows, columns, 3).tolil()
    A[rows // 2] = 1
    return sp.csr_array(A)


@pytest.mark.parametrize("chip", [CHIP, Chip("small", backend="model")], ids=["large", "small"])
@pytest.mark.parametrize(("rows", "columns", "parts"), [(10_000, 20_000, 43), (60_000, 3_000, 2)])
def test_virtual_rows_go_in_turns_with_others(
    chip: Chip, rows: int, columns: int, parts: int
) -> None:
    """The others that are left then take all PEs for as long as the last part takes one."""
    A, B = with_a_full_row(rows, columns), np.ones((columns, 64))
    found = turns(MATMUL, "ikj", chip, A=A, B=B)
    assert found["virtual"] == pytest.approx(parts, abs=1)
    size = found["share.head"] * 32 + rows
    order = list(ones(size, found["share.head"], found["share.between"]))
    alone = [n for n, words in enumerate(order) if len(words) == 1 and words[0].bit_count() < 9]
    last = alone[found["virtual"] - 1]
    left = sum(n not in alone for n in range(last, len(order)))
    part, others = 1 / QUANTA, rows * 4 / (rows * 4 + columns)  # of the work
    needed = part * chip.config.pes / others * rows / 32
    # as nearly as whole numbers of pairs between them allow
    assert 0.95 * needed <= left <= 1.05 * needed + found["virtual"]


def test_virtual_rows_go_first() -> None:
    """Where a part takes longer than it weighs, in a nest of two loops; where most of the work is
    in virtual rows; and where rows are stored compressed, in their order.
    """
    A, x = with_a_full_row(20_000, 30_000), np.ones(30_000)
    found = turns(SPMV, "ij", A=A, x=x)
    assert found["share.head"] == 1 and not found["share.between"]
    B = np.ones((30_000, 8))
    full = sp.csr_array(sp.vstack([np.ones((4, 30_000)), drawn(2000, 30_000, 1)]))
    found = turns(MATMUL, "ikj", A=full, B=B)
    assert found["share.head"] == 4 and not found["share.between"]
    rows = CHIP.tensor(A, levels=(COMPRESSED, COMPRESSED))
    assert "share.head" not in turns(MATMUL, "ikj", A=rows, B=B)
