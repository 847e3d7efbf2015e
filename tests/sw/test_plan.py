"""From statements to nests: orders, cells, tables, the result's storage, and refused statements."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue, Tensor
from loopnest.cost.estimate import product_lanes
from loopnest.expression.operand import Operand
from loopnest.expression.parser import parse
from loopnest.kernel.lower import lower
from loopnest.loops.plan import result_is_sparse
from loopnest.loops.planner import make_plan
from loopnest_hw.config import make_config
from loopnest_hw.descriptor import CellMode, LeafMode, Op, ResultMode

CONFIG = make_config("single")
RNG = np.random.default_rng(1)
HOLD, FOLLOW, SCAN = CellMode.HOLD, CellMode.FOLLOW, CellMode.SCAN


def sparse(*shape):
    coo = sp.coo_array(RNG.integers(1, 9, shape) * (RNG.random(shape) < 0.1))
    return coo.tocsr() if len(shape) == 2 else coo


def dense(*shape):
    return RNG.integers(-9, 9, shape)


def plan_and_fields(text, order=None, compressed=None, full=False, config=CONFIG, **arguments):
    statement = parse(text)
    operands = [Operand(a.name, arguments[a.name], config.dtype) for a in statement.accesses]
    if compressed is None:
        compressed = result_is_sparse(statement, operands)
    plan = make_plan(config, statement, operands, order=order, compressed=compressed, full=full)
    tensors = [o.pack(s) for o, s in zip(plan.operands, plan.nest.columns, strict=True)]
    return plan, lower(config, plan, tuple(tensors)).fields


def modes(plan):
    return [[cell.mode for cell in row.cells] for row in plan.nest.rows]


def ones(plan):
    return [[c for c, cell in enumerate(row.cells) if cell.ones] for row in plan.nest.rows]


def test_gustavson():
    plan, fields = plan_and_fields(
        "C[i,j] = A[i,k] * B[k,j]", A=sparse(250, 100), B=sparse(100, 250)
    )
    assert "".join(plan.loops) == "ikj"
    assert modes(plan) == [[FOLLOW, HOLD], [SCAN, FOLLOW], [HOLD, SCAN]]
    assert ones(plan) == [[0], [], []]
    assert [row.number for row in plan.nest.rows] == [0, 1, 3] and fields["row.2.bypass"]
    assert fields["leaf_mode"] == LeafMode.AXPY and fields["accumulate"] == 1
    assert fields["drain_stop"] == 2 and fields["result.size"] == 250
    assert (fields["row.0.result_mode"], fields["row.0.result_step"]) == (ResultMode.FIBER, 1)
    assert fields["row.1.result_mode"] == ResultMode.HOLD
    assert (fields["row.3.result_mode"], fields["row.3.result_step"]) == (ResultMode.KEY, 1)
    assert (fields["op1"], fields["op2"]) == (Op.MUL, Op.FIRST)
    # Kept: both present (the third column is not used, whatever its bit).
    assert fields["row.1.block_table"] == fields["row.1.lane_table"] == 0b10001000
    assert fields["row.1.cell.0.scanner"] != fields["row.3.cell.1.scanner"]
    assert fields["scanner.0.table"] and not fields["scanner.0.open"]


def test_inner_product():
    plan, fields = plan_and_fields(
        "C[i,j] = A[i,k] * B[k,j]", order="ijk", A=sparse(25, 10), B=sparse(10, 25)
    )
    assert plan.nest.columns[1].mode_order == (1, 0)  # B by columns
    assert modes(plan) == [[FOLLOW, HOLD], [HOLD, FOLLOW], [SCAN, SCAN]]
    assert fields["leaf_mode"] == LeafMode.DOT and fields["accumulate"] == 0
    assert fields["drain_stop"] == 2


@pytest.mark.parametrize("order", ["ik", "ki"])
def test_matrix_times_vector(order):
    _plan, fields = plan_and_fields(
        "y[i] = A[i,k] * x[k]", order=order, A=sparse(25, 10), x=dense(10)
    )
    if order == "ik":  # each row is a fiber of one number
        assert (fields["drain_stop"], fields["result.size"]) == (1, 1)
        assert fields["leaf_mode"] == LeafMode.DOT and fields["accumulate"] == 0
    else:
        assert (fields["drain_stop"], fields["result.size"]) == (2, 25)
        assert fields["leaf_mode"] == LeafMode.AXPY and fields["accumulate"] == 1


def test_one_loop_has_a_dummy_above_it():
    plan, fields = plan_and_fields("y[i] = a[i] + b[i]", a=sparse(100), b=sparse(100))
    assert plan.nest.rows[0].index is None and fields["row.0.size"] == 1
    assert modes(plan) == [[HOLD, HOLD], [SCAN, SCAN]] and ones(plan) == [[0], []]
    assert fields["drain_stop"] == 2 and fields["accumulate"] == 0


def test_a_dense_operand_in_a_union_is_the_all_ones_fiber():
    plan, fields = plan_and_fields("C[i,j] = S[i,j] + D[i,j]", S=sparse(25, 37), D=dense(25, 37))
    assert ones(plan) == [[0], [1]] and modes(plan)[1] == [SCAN, FOLLOW]
    # Dropped: patterns in which no join input has the lane.
    assert fields["row.0.lane_table"] & 0b1111 == 0b1010
    assert fields["row.3.lane_table"] & 0b1111 == 0b1110


def test_a_dense_operand_in_a_product_is_not():
    plan, _ = plan_and_fields("C[i,j] = S[i,j] * D[i,j]", S=sparse(25, 37), D=dense(25, 37))
    assert ones(plan) == [[0], []]


def test_a_union_of_blocked_operands_compresses_them():
    kinds = {"levels": "compressed,dense"}
    a, b = (Tensor.from_scipy(sparse(9, 5), **kinds) for _ in "ab")
    plan, _ = plan_and_fields("C[i,j] = A[i,j] + B[i,j]", order="ij", A=a, B=b)
    assert [s.levels for s in plan.nest.columns] == [("compressed",) * 2] * 2


def test_axpy_pads_the_inner_index_of_two_keys():
    plan, fields = plan_and_fields(
        "C[i,j] = A[i,k] * B[k,j]", order="kij", A=sparse(25, 10), B=sparse(10, 25)
    )
    assert plan.result.modes["i"] == (ResultMode.KEY, 32) and fields["result.size"] == 25 * 32
    assert fields["drain_stop"] == 3


def test_scatter_where_padding_would_not_fit():
    plan, _ = plan_and_fields(
        "C[i,j] = A[i,k] * B[k,j]", order="kij", A=sparse(1 << 18, 2), B=sparse(2, 3)
    )
    assert plan.result.leaf_mode is LeafMode.SCATTER and plan.result.span == 3 << 18


def test_full_visits_every_fiber():
    a = Tensor.from_scipy(sparse(9, 5), levels="compressed,compressed")
    plan, fields = plan_and_fields(
        "C[i,j] = A[i,k] * B[k,j]", order="ikj", full=True, A=a, B=sparse(5, 7)
    )
    assert plan.nest.columns[0].levels == ("dense", "compressed")
    assert fields["result.full"] == 1
    plan, fields = plan_and_fields("C[i,j] = A[i,j]", full=True, A=a)
    assert fields["accumulate"] == 1


def test_tensors_are_not_converted_if_the_loops_can_read_them():
    dense_tensor = Tensor.from_dense(dense(10, 25))
    plan, _ = plan_and_fields(
        "C[i,j] = A[i,k] * B[k,j]", order="ijk", A=sparse(25, 10), B=dense_tensor
    )
    assert plan.nest.columns[1].mode_order == (0, 1)
    assert [row.cells[1].step for row in plan.nest.rows] == [0, 1, 25]


def test_wide_factors_go_where_the_multiplier_takes_them():
    wide = Tensor.from_dense(dense(5), wide=True)
    plan, _ = plan_and_fields("y[i] = a[i] * b[i]", a=wide, b=dense(5))
    assert plan.nest.lane.columns == (1, 0)
    plan, _ = plan_and_fields("y[i] = a[i] * b[i] * c[i]", a=wide, b=dense(5), c=dense(5))
    assert plan.nest.lane.columns.index(0) == 2
    with pytest.raises(ValueError, match="at most one wide factor"):
        plan_and_fields("y[i] = a[i] * b[i]", a=wide, b=wide)


def test_signs():
    vectors = {name: dense(5) for name in "abc"}
    plan, _ = plan_and_fields("y[i] = a[i] - (b[i] - c[i])", **vectors)
    assert dict(zip(plan.nest.lane.columns, plan.nest.lane.negate, strict=True)) == {
        0: False, 1: True, 2: False,
    }  # fmt: skip
    plan, _ = plan_and_fields("y[i] = -a[i] * (b[i] + c[i])", **vectors)
    assert sum(plan.nest.lane.negate) == 1


def test_rings_share_the_pool():
    _, fields = plan_and_fields("y[i] = A[i,k] * x[k]", order="ik", A=sparse(99, 999), x=dense(999))
    rings = [
        (fields[f"ring.{s}.base"], fields[f"ring.{s}.last"]) for s in range(CONFIG.pool_streams)
    ]
    assert rings[0][0] == 0 and rings[-1][1] == CONFIG.pool_lines - 1
    for (_, last), (base, end) in itertools.pairwise(rings):
        assert base == last + 1 and end > base
    sizes = [last - base + 1 for base, last in rings]
    assert max(sizes) == sizes[2 * CONFIG.scanners + 1] > 32  # the gather of x


@pytest.mark.parametrize("b", [sparse(30, 20), dense(30, 20)])
@pytest.mark.parametrize("a", [sparse(40, 30), dense(40, 30)])
def test_the_lanes_of_a_product_are_counted(a, b):
    plan, _ = plan_and_fields("C[i,j] = A[i,k] * B[k,j]", A=a, B=b)
    tensors = [o.pack(s) for o, s in zip(plan.operands, plan.nest.columns, strict=True)]
    lanes = product_lanes(plan.nest.columns, tensors)
    present = [(m != 0).toarray() if sp.issparse(m) else np.ones(m.shape, bool) for m in (a, b)]
    assert lanes == (present[0].astype(int) @ present[1]).sum()


def test_the_default_order_of_a_sparse_vector():
    plan, _ = plan_and_fields("y[i] = A[i,k] * x[k]", A=sparse(500, 500), x=sparse(500))
    assert "".join(plan.loops) == "ki"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x[i] = b[i] - A[i,k] * d[k]", r"the term b\[i\] does not have the summed index 'k'"),
        ("C[i,k] = A[i,k] + B[i,k] * E[i,k]", "a product in a sum would be computed"),
        ("C[i,k] = A[i,k] * B[i,k] * E[i,k] * A[i,k]", "4 operands; a single kernel .* takes 3"),
    ],
)
def test_what_a_single_kernel_cannot_do(text, message):
    arguments = {
        "A": sparse(9, 5),
        "B": sparse(9, 5),
        "E": sparse(9, 5),
        "b": dense(9),
        "d": dense(5),
    }
    names = {access.name for access in parse(text).accesses}
    with pytest.raises(ValueError, match=message):
        plan_and_fields(text, **{name: arguments[name] for name in names})


def test_too_many_loops_rows_scanners_and_keys():
    with pytest.raises(ValueError, match="3 loops; a single kernel of this chip has 2 rows"):
        plan_and_fields(
            "C[i,j] = A[i,k] * B[k,j]", config=make_config("single", rows=2),
            A=sparse(9, 5), B=sparse(5, 9),
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"2 compressed levels below the first loop: .* scans 1"):
        plan_and_fields(
            "C[i,j] = A[i,k] * B[k,j]", config=make_config("single", streams=5),
            A=sparse(9, 5), B=sparse(5, 9),
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"order 'kij': indices i,j make .* a single kernel holds"):
        plan_and_fields(
            "C[i,j] = A[i,k] * B[k,j]", order="kij", A=sparse(2000, 5), B=sparse(5, 2000)
        )


def test_arguments_that_do_not_fit():
    a = sparse(9, 5)
    with pytest.raises(ValueError, match=r"index 'k' has size 5 in A\[i,k\] and 6 in B\[k,j\]"):
        plan_and_fields("C[i,j] = A[i,k] * B[k,j]", A=a, B=sparse(6, 9))
    with pytest.raises(ValueError, match=r"A\[i\]: A has shape \(9, 5\): expected 1 dimension$"):
        plan_and_fields("y[i] = A[i]", A=a)
    with pytest.raises(ValueError, match="order 'ij': expected the indices i, k, each once"):
        plan_and_fields("y[i] = A[i,k]", order="ij", A=a)
    with pytest.raises(ValueError, match="A is a int8 tensor: expected bf16"):
        plan_and_fields("y[i] = A[i,k]", A=Tensor.from_scipy(a, dtype="int8"))
    with pytest.raises(TypeError, match="A is str"):
        plan_and_fields("y[i] = A[i,k]", A="matrix")


def test_one_loop_may_not_fit_the_accumulator():
    """With a bias every element takes a slot, and one loop allows no further passes."""
    chip = Chip("single", backend="model")
    elements = 16 * chip.config.slots
    bias = Epilogue(bias=1)
    for size, fits in ((elements, True), (elements + 16, False)):
        x = np.ones(size)
        (plan,) = chip.explain("y[i] = x[i]", x=x, epilogue=bias).plans
        assert plan.fits is fits
        assert np.array_equal(chip.compute("y[i] = x[i]", x=x, epilogue=bias), x + 1)


def test_rows_are_compressed_where_many_are_empty():
    rng = np.random.default_rng(1)
    chip, x, n = Chip(backend="model"), rng.integers(1, 5, 20_000), 20_000

    def levels(nnz, make=lambda A: A, **arguments):
        at = rng.integers(0, n, (2, nnz))
        A = sp.coo_array((np.ones(nnz), tuple(at)), (n, n)).tocsr()
        given = {"A": make(A), "x": x, **arguments}
        (plan,) = chip.explain("y[i] = A[i,j] * x[j]", **given).plans
        np.testing.assert_array_equal(
            np.asarray(chip.compute("y[i] = A[i,j] * x[j]", **given)), A @ x
        )
        return plan.loops, plan.nest.columns[0].levels

    assert levels(14_000) == (("i", "j"), ("compressed", "compressed"))
    assert levels(14_000, order="ij") == (("i", "j"), ("compressed", "compressed"))
    assert levels(25_000) == (("i", "j"), ("dense", "compressed"))
    assert levels(14_000, Tensor.from_scipy) == (("i", "j"), ("dense", "compressed"))
