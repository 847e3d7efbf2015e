"""The cost model: its counts, against brute force and the golden model, and its picks."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Tensor
from loopnest.cost.relation import Relation, total
from loopnest.expression.operand import Operand
from loopnest.expression.parser import parse
from loopnest.loops.plan import result_is_sparse
from loopnest.loops.planner import make_plan
from loopnest_hw.config import make_config

CONFIG = make_config("single")
SIZES = {"i": 5, "j": 6, "k": 7, "l": 1 << 20, "m": 1 << 20, "n": 1 << 20, "o": 1 << 20}


def relation(rng, indices, share=0.4):
    sizes = [min(SIZES[i], 4) for i in indices]
    there = np.argwhere(rng.random(sizes) < share)
    return Relation(
        tuple(indices), tuple(there.T.astype(np.int64)), rng.integers(1, 4, len(there)) * 1.0
    )


def brute_force(relations, over):
    tables = [dict(zip(zip(*r.columns, strict=True), r.weight, strict=True)) for r in relations]
    found = 0.0
    seen = [i for i in over if any(i in r.indices for r in relations)]
    for at in itertools.product(*(range(min(SIZES[i], 4)) for i in seen)):
        place = dict(zip(seen, at, strict=True))
        weight = 1.0
        for r, table in zip(relations, tables, strict=True):
            weight *= table.get(tuple(place[i] for i in r.indices), 0.0)
        found += weight
    return found * np.prod([SIZES[i] for i in over if i not in seen])


@pytest.mark.parametrize(
    "sets",
    [["ij"], ["ik", "kj"], ["ij", "j"], ["ij", "ij"], ["ik", "kj", "ij"], ["ijk", "jk", "k"],
     ["ij", "jk", "kl"], ["lmno", "mo"], ["lmno", "lmno"], ["i", "j"], ["lm", "mn", "ln"]],
)  # fmt: skip
def test_joins_are_counted(sets):
    rng = np.random.default_rng(3)
    relations = [relation(rng, s) for s in sets]
    over = sorted(set("".join(sets)) | {"k"})
    assert total(relations, over, SIZES) == pytest.approx(brute_force(relations, over))


def test_a_join_without_fibers_is_empty():
    none = Relation(("i",), (np.zeros(0, np.int64),), np.zeros(0))
    assert total([none, none], "ij", SIZES) == 0
    assert total([], "ij", SIZES) == 30


def sparse(rng, shape, density, skew=0.0):
    """Return a matrix; with skew, some of its rows and columns have far more entries."""
    count = int(np.prod(shape) * density)
    at = [np.minimum(n - 1, (n * rng.random(count) ** (1 + skew)).astype(int)) for n in shape]
    return sp.csr_array(sp.coo_array((rng.integers(1, 9, count) * 1.0, tuple(at)), shape))


def plan(text, order=None, *, config=CONFIG, latency=4, **operands):
    statement = parse(text)
    known = {name: Operand(name, o, config.dtype) for name, o in operands.items()}
    arguments = [known[a.name] for a in statement.accesses]
    compressed = result_is_sparse(statement, arguments)
    return make_plan(
        config, statement, arguments, order=order, compressed=compressed, latency=latency
    )


EXACT = {
    "y[i] = A[i,j] * x[j]": ("ij", "ji"),
    "C[i,j] = A[i,k] * B[k,j]": ("ikj", "jki", "kij"),
    "C[i,j] = A[i,j] * D[i,j]": ("ij", "ji"),
    "C[i,j] = A[i,j] + D[i,j]": ("ij", "ji"),
    "X[i,j] = A[i,j] * c[i,k] * d[k,j]": ("ijk", "ikj", "kji"),
    "C[i,j] = A[i,j] * (D[i,j] + E[i,j])": ("ij",),
}


@pytest.mark.parametrize("skew", [0.0, 2.0])
@pytest.mark.parametrize(
    ("text", "order"), [(text, order) for text, orders in EXACT.items() for order in orders]
)
def test_products_are_counted_exactly(text, order, skew):
    rng = np.random.default_rng(7)
    known = {
        "A": sparse(rng, (60, 70), 0.1, skew),
        "D": sparse(rng, (60, 70), 0.1, skew),
        "E": sparse(rng, (60, 70), 0.1, skew),
        "B": sparse(rng, (70, 50), 0.1, skew),
        "x": rng.integers(1, 9, 70) * 1.0,
        "c": rng.integers(1, 9, (60, 3)) * 1.0,
        "d": rng.integers(1, 9, (3, 70)) * 1.0,
    }
    operands = {a.name: known[a.name] for a in parse(text).accesses}
    expected = plan(text, order, **operands).expected
    chip = Chip(backend="model", kept_lines=0)
    chip.compute(text, order=order, **operands)
    assert expected.multiplies == pytest.approx(chip.report.multiplies)
    lines = chip.report.work[0].lines_read
    assert expected.lines == pytest.approx(lines, rel=0.35)
    scanned = sum(s.access.name in "ADE" for s in plan(text, order, **operands).nest.columns)
    if scanned < 2:  # otherwise the positions of the lanes are estimated
        empty = 60  # leaf fibers without lanes, at most
        assert 0 <= expected.stages["leaf"] - chip.report.leaf_steps <= empty


def test_a_long_fiber_that_is_visited_often_takes_its_lines_each_time():
    """Every row of A meets the one full row of B."""
    rng = np.random.default_rng(9)
    A, B = sparse(rng, (80, 90), 0.02), sparse(rng, (90, 900), 0.002)
    A = sp.csr_array(A + sp.csr_array((np.ones(80), (np.arange(80), np.full(80, 7))), (80, 90)))
    B = sp.csr_array(B + sp.csr_array((np.ones(900), (np.full(900, 7), np.arange(900))), (90, 900)))
    expected = plan("C[i,j] = A[i,k] * B[k,j]", "ikj", A=A, B=B).expected
    chip = Chip(backend="model", kept_lines=0)
    chip.matmul(A, B, order=("i", "k", "j"))
    assert expected.lines == pytest.approx(chip.report.work[0].lines_read, rel=0.1)


def test_lines_of_operands_that_are_visited_at_random_places():
    """Few elements of A meet one of B; each row of D is visited once for each of them, and not at
    all if it is empty.
    """
    rng = np.random.default_rng(3)
    A, B, D = (
        sparse(rng, s, d) for s, d in (((250, 200), 0.4), ((250, 200), 0.05), ((300, 200), 0.006))
    )
    text = "Y[i,k] = A[i,k] * B[i,k] * D[j,k]"
    expected = plan(text, "kij", A=A, B=B, D=D).expected
    chip = Chip(backend="model", kept_lines=0)
    chip.compute(text, order="kij", A=A, B=B, D=D)
    assert expected.lines == pytest.approx(chip.report.work[0].lines_read, rel=0.1)


def test_lines_of_rows_that_are_visited_repeatedly_come_in_bursts():
    """A row of D whose position entry lies in two lines takes both for each element of A * B; the
    kernel waits if a ring is shorter than that, and the memory slow.
    """
    rng = np.random.default_rng(3)
    A, B = (sparse(rng, (400, 40), 0.5) for _ in "AB")
    D = sparse(rng, (50, 40), 0.05)
    text = "Y[i,k] = A[i,k] * B[i,k] * D[j,k]"
    waits = [plan(text, "kij", A=A, B=B, D=D, latency=n).expected.waits for n in (1, 100)]
    assert waits[0] < 100 < 3000 < waits[1]
    row = sp.csr_array(D[:1])  # its fibers are visited once
    assert plan("Y[i,k] = A[i,k] * D[j,k]", "kji", A=A, D=row, latency=100).expected.waits == 0


def test_memory_latencies_are_counted_for_rows_that_are_reached():
    """The product of A and B has no terms, and C is never read."""
    A = sp.csr_array((np.ones(1), ([0], [1])), (20, 30))
    B = sp.csr_array((np.ones(1), ([0], [2])), (20, 30))
    C = sparse(np.random.default_rng(1), (30, 40), 0.2)
    text = "Y[i,k] = A[i,j] * B[i,j] * C[j,k]"

    def latencies(B):
        fast, slow = (plan(text, "ijk", A=A, B=B, C=C, latency=n).cycles for n in (1, 1001))
        return (slow - fast) / 1000

    assert latencies(A) - latencies(B) >= 4


def picked(text, **arguments):
    return "".join(plan(text, **arguments).loops)


def test_a_leaf_that_strides_over_lines_reads_one_for_each_lane():
    A, B = (Tensor.from_dense(np.ones(s), levels="dense,dense") for s in ((64, 128), (128, 16)))
    chip = Chip(dtype="bf16", backend="model")
    text = "C[i,j] = A[i,k] * B[k,j]"
    (plan,) = chip.explain(text, order="ijk", A=A, B=B).plans
    assert plan.expected.value_lines[1] == 64 * 16 * 128
    (plan,) = chip.explain(text, A=A, B=B).plans
    assert plan.loops == ("i", "k", "j")


def test_a_vector_is_read_once_where_the_accumulator_can_hold_the_result():
    A = sparse(np.random.default_rng(1), (500, 400), 0.02)
    x = np.ones(400)
    assert picked("y[i] = A[i,j] * x[j]", A=A, x=x) == "ji"
    # 500 rows are 32 blocks
    few = make_config("single", slots=16)
    assert picked("y[i] = A[i,j] * x[j]", A=A, x=x, config=few) == "ij"
    assert not plan("y[i] = A[i,j] * x[j]", "ji", A=A, x=x, config=few).fits
    assert plan("y[i] = A[i,j] * x[j]", "ji", A=A, x=x).fits


@pytest.mark.parametrize("skew", [0.0, 1.5])
def test_sparse_matrices_are_multiplied_by_rows(skew):
    rng = np.random.default_rng(2)
    A, B = sparse(rng, (300, 200), 0.03, skew), sparse(rng, (200, 250), 0.03, skew)
    assert picked("C[i,j] = A[i,k] * B[k,j]", A=A, B=B) in ("ikj", "jki")


def test_a_dense_index_goes_where_it_fills_the_multipliers():
    rng = np.random.default_rng(3)
    A = sparse(rng, (250, 100), 0.05)
    text = "X[i,j] = A[i,j] * c[i,k] * d[k,j]"
    for rank, inner in ((1, False), (40, True)):
        c, d = np.ones((250, rank)), np.ones((rank, 100))
        assert (picked(text, A=A, c=c, d=d)[-1] == "k") is inner


def test_many_short_result_fibers_wait_for_the_memory():
    rng = np.random.default_rng(4)
    A = sparse(rng, (400, 50), 0.05)
    c, d = np.ones((400, 1)), np.ones((1, 50))
    text = "X[i,j] = A[i,j] * c[i,k] * d[k,j]"
    slow = plan(text, "ikj", A=A, c=c, d=d, latency=100).cycles
    assert slow > plan(text, "jki", A=A, c=c, d=d, latency=100).cycles
    assert slow > 2 * plan(text, "ikj", A=A, c=c, d=d, latency=4).cycles


def test_a_tensors_own_order_is_preferred():
    A = sparse(np.random.default_rng(5), (120, 120), 0.2)
    x = np.ones(120)
    assert picked("y[i] = A[i,j] * x[j]", A=A, x=x) == "ji"
    assert picked("y[i] = A[i,j] * x[j]", A=Tensor.from_scipy(A), x=x) == "ij"


def test_empty_operands():
    none = sp.csr_array((9, 7))
    for order in ("ikj", "ijk", "kij"):
        cost = plan("C[i,j] = A[i,k] * B[k,j]", order, A=none, B=sp.csr_array((7, 5)))
        assert cost.expected.multiplies == 0 and cost.cycles > 0
    assert plan("y[i] = A[i,j] * x[j]", A=sp.csr_array((0, 7)), x=np.ones(7)).cycles > 0
