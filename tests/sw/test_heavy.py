"""Heavy rows: divided into virtual rows, which a second kernel adds up."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue, Tensor
from loopnest.expression import virtual
from loopnest.expression.notation import Access
from loopnest.expression.operand import Operand
from loopnest.expression.stored import Stored
from loopnest.expression.virtual import QUANTA, divide_rows
from loopnest.formats.tensor import sparse_levels
from loopnest.nest.result import Part
from loopnest.program.start import Start
from loopnest_hw.config import PAIR_COORDINATES, NumberFormat

INT8, BF16 = (Chip("single", dtype=dtype, backend="model") for dtype in ("int8", "bf16"))
PES = [Chip("single", dtype="bf16", backend="model", cache=1, pes=pes) for pes in (1, 3, 16)]

ROWS, COLUMNS = 16_003, 20_000
SPMV, SPMM = "y[i] = A[i,j] * x[j]", "Y[i,k] = A[i,j] * X[j,k]"


def matrix(heavy, rows=ROWS, columns=COLUMNS, seed=1):
    """Return a matrix with about one entry a row, but for the heavy ones, nine tenths full."""
    rng = np.random.default_rng(seed)
    light = rng.integers(0, [[rows], [columns]], (2, rows))
    full = [np.flatnonzero(rng.random(columns) < 0.9) for _ in heavy]
    row = np.repeat(np.array(heavy, np.int64), [len(f) for f in full])
    at = np.unique(
        np.concatenate([light, np.stack([row, np.concatenate(full or [[]])])], 1), axis=1
    )
    at = at.astype(np.int64)
    return sp.csr_array(sp.coo_array((rng.integers(1, 4, at.shape[1]), tuple(at)), (rows, columns)))


def vector(size=COLUMNS, seed=2):
    return np.random.default_rng(seed).integers(-3, 4, size)


def divided(chip):
    """Return how the last run divided rows."""
    return [note for note in chip.report.stored if "heavy row" in note]


@pytest.mark.parametrize("heavy", [[0], [ROWS - 1], [777], [0, 5, 9000, ROWS - 1], [15, 16, 17]])
def test_the_product_with_a_vector(heavy):
    A, x = matrix(heavy), vector()
    np.testing.assert_array_equal(INT8.compute(SPMV, A=A, x=x), A @ x)
    assert len(divided(INT8)) == 1 and INT8.report.order == "ij,iv"
    first, second = INT8.report._kernels
    (parts,) = {int(note.split()[-2]) for note in divided(INT8)}
    assert len(heavy) <= parts <= 100
    assert parts <= first.plan.sizes["i"] - ROWS < parts + PAIR_COORDINATES
    assert second.plan.expected.multiplies == parts and second.plan.sizes["v"] == parts


@pytest.mark.parametrize("heavy", [[0], [ROWS - 1, 3]])
def test_any_number_of_pes_computes_the_same_bits(heavy):
    """Of sums in fp32, whose last bits depend on the order."""
    rng = np.random.default_rng(3)
    A = matrix(heavy).astype(np.float64)
    A.data = rng.standard_normal(A.nnz)
    x, X = rng.standard_normal(COLUMNS), rng.standard_normal((COLUMNS, 5))
    for statement, operands in ((SPMV, {"x": x}), (SPMM, {"X": X})):
        one = PES[0].compute(statement, A=A, **operands)
        assert divided(PES[0])
        for chip in PES[1:]:
            assert chip.compute(statement, A=A, **operands).tobytes() == one.tobytes()


def test_the_product_with_a_matrix():
    A, X = matrix([7, ROWS - 1]), np.stack([vector(seed=s) for s in range(5)], 1)
    for operand in (X, sp.csr_array(X * (X > 0))):
        found = INT8.compute(SPMM, A=A, X=operand, out="dense,dense", order="ijk")
        np.testing.assert_array_equal(found, A @ (operand if operand is X else operand.toarray()))
        assert divided(INT8) and INT8.report.order == "ijk,ivk"
    INT8.compute("Y[k,i] = A[i,j] * X[j,k]", A=A, X=X, order="ijk")
    assert not divided(INT8)  # the rows of the result are not A's


def test_few_long_rows():
    """All are heavy."""
    rng = np.random.default_rng(4)
    dense = rng.integers(-2, 3, (3, 300_000)) * (rng.random((3, 300_000)) < 0.5)
    A, x = sp.csr_array(dense), 1 + vector(300_000) ** 2
    np.testing.assert_array_equal(INT8.compute(SPMV, A=A, x=x), A @ x)
    assert divided(INT8)[0].startswith("A: 3 heavy rows in ")


def test_levels_and_orders_of_tensors():
    A, x = matrix([70, 71]), vector()
    for levels in ("dense,compressed", "compressed,compressed"):
        a = Tensor.from_scipy(A, levels=levels, dtype="int8")
        y = INT8.compute(SPMV, A=a, x=x)
        assert isinstance(y, Tensor) and divided(INT8)
        np.testing.assert_array_equal(y.to_dense(), A @ x)
    by_columns = A.T.tocsr()
    np.testing.assert_array_equal(INT8.compute("y[i] = B[j,i] * x[j]", B=by_columns, x=x), A @ x)
    wide = Tensor.from_scipy(A * 1000, levels="dense,compressed", dtype="int8", wide=True)
    np.testing.assert_array_equal(INT8.compute(SPMV, A=wide, x=x).to_dense(), A @ x * 1000)
    assert divided(INT8)


@pytest.mark.parametrize(
    "semiring", ["min_plus", "max_times", "or_and", "plus_pair", "plus_second"]
)
def test_semirings(semiring):
    A, x = matrix([3, ROWS - 1]), np.abs(vector())
    data, at, ends = A.data, x[A.indices], A.indptr
    terms = {
        "min_plus": data + at,
        "max_times": data * at,
        "or_and": (data * at != 0) * 1,
        "plus_pair": np.ones_like(at),
        "plus_second": at,
    }[semiring]
    add = {"min_plus": np.minimum, "max_times": np.maximum, "or_and": np.maximum}
    full = np.diff(ends) > 0
    y = INT8.compute(SPMV, A=A, x=x, semiring=semiring)
    want = add.get(semiring, np.add).reduceat(terms, ends[:-1][full])
    np.testing.assert_array_equal(y[full], want)
    assert len(np.unique(y[~full])) == 1 and divided(INT8)


def test_a_maximum_of_negative_terms():
    """A part without terms is a 0, which is larger: the rows stay whole."""
    A, x = matrix([3]), -np.abs(vector()) - 1
    y = INT8.compute(SPMV, A=A, x=x, semiring="max_times_0")
    assert not divided(INT8)
    row = A[[3]]
    assert y[3] == (row.data * x[row.indices]).max() < 0


def test_what_stays_in_one_kernel():
    A, x = matrix([3]), vector()
    mask = np.arange(ROWS) % 2
    relu = INT8.compute(SPMV, A=A, x=x, epilogue=Epilogue(relu=True))
    np.testing.assert_array_equal(relu, np.maximum(A @ x, 0))
    assert not divided(INT8)
    masked = INT8.compute(SPMV, A=A, x=x, mask=mask)
    np.testing.assert_array_equal(masked, np.where(mask, A @ x, 0))
    assert not divided(INT8)
    even = matrix([])
    np.testing.assert_array_equal(INT8.compute(SPMV, A=even, x=x), even @ x)
    assert not divided(INT8) and INT8.report.order == "ij"


def test_terms_of_a_sum():
    A, x, b = matrix([3]), vector(), np.arange(ROWS) % 100
    y = INT8.compute("y[i] = b[i] - A[i,j] * x[j]", A=A, x=x, b=b)
    np.testing.assert_array_equal(y, b - A @ x)
    assert divided(INT8)
    square = matrix([3, 900], COLUMNS)
    y = INT8.compute("y[i] = A[i,j] * (A[j,k] * x[k])", A=square, x=x % 2)
    np.testing.assert_array_equal(y, square @ (square @ (x % 2)))
    assert divided(INT8)


def test_it_is_said():
    A, x = matrix([3, 900]), vector()
    explained = INT8.explain(SPMV, A=A, x=x)
    first, second = explained.plans
    note = f"A: 2 heavy rows in {second.sizes['v']} parts"
    assert first.sizes["i"] == ROWS + PAIR_COORDINATES
    assert note in str(explained).splitlines()
    assert explained.to_dict()["kernels"][0]["stored"] == [note]
    assert str(second.statement) == "y[i] = ones1[i,v] * part1[v]"
    INT8.compute(SPMV, A=A, x=x)
    assert INT8.report.stored == (note,) and note[3:] in str(INT8.report)


def test_a_program_plans_again_where_other_rows_are_heavy(tmp_path):
    A, x = matrix([3]), vector()
    steps = [SPMV, "s = y[i] * w[i]"]
    w = np.arange(ROWS) % 3
    program = loopnest.compile(steps, {"A": A, "x": x, "w": w}, chip=INT8)
    assert [type(stage) for stage in program.contents.stages] == [Start]
    for B in (A, matrix([900, 4]), matrix([]), A):
        for v in (x, vector(seed=9)):
            assert program.run(A=B, x=v)["s"] == (B @ v) @ w
    program = loopnest.compile(SPMV, {"A": A, "x": x}, chip=INT8)
    (stage,) = program.contents.stages
    (own,) = (region for region in stage.image.regions if region.operand.name == "A")
    assert own.entries == A.nnz  # no other run brings more
    program.save(tmp_path / "program.lnp")
    loaded = loopnest.load(tmp_path / "program.lnp", chip=INT8)
    for v in (x, vector(seed=9), x):
        np.testing.assert_array_equal(program.run(x=v)["y"], A @ v)
        np.testing.assert_array_equal(loaded.run(x=v)["y"], A @ v)
    assert loaded.report.stored == program.report.stored != ()
    with pytest.raises(ValueError, match="divides rows of theirs"):
        loaded.run(A=matrix([4]))


def test_the_result_as_a_part_of_a_larger_tensor():
    A, x = matrix([3]), vector()
    one = Assignment(statement=SPMV, part=Part((2, ROWS), (1, 0), (1,)))
    program = loopnest.compile([one], {"A": A, "x": x}, chip=INT8)
    np.testing.assert_array_equal(program(), np.stack([0 * (A @ x), A @ x]))


def test_a_list_that_fails(slots_run_out):
    """Its kernels run one by one."""
    A, x = matrix([3, ROWS - 1]), vector()
    program = loopnest.compile(
        [SPMV, "s = y[i] * w[i]"], {"A": A, "x": x, "w": 1 + 0 * x[:ROWS]}, chip=INT8
    )
    slots_run_out("s'")
    assert program() == (A @ x).sum()


@pytest.mark.parametrize("by_blocks", [True, False])
def test_where_rows_are_cut(by_blocks, monkeypatch):
    """At block edges, into parts of about the same weight."""
    monkeypatch.setattr(virtual, "MIN_WEIGHT", 100)
    rng = np.random.default_rng(5)
    count = 0
    for _ in range(100):
        rows, columns = rng.integers(1, 40), rng.integers(1, 3000)
        dense = rng.random((rows, columns)) < rng.random((rows, 1)) ** 4
        operand = Operand("A", sp.csr_array(dense * 1), NumberFormat.INT8)
        stored = Stored(Access("A", ("i", "j")), sparse_levels(2), ("i", "j"), (rows, columns))
        blocks = [dense[:, n : n + 16].sum(axis=1) for n in range(0, columns, 16)]
        weight = np.stack([(b > 0) if by_blocks else b for b in blocks], 1)
        of_row, total = weight.sum(axis=1), rows + weight.sum()
        quantum = -(-total // QUANTA)
        heavy = np.flatnonzero(of_row >= quantum)
        found = divide_rows(operand, stored, by_blocks=by_blocks)
        assert (found is None) == (total < 100 or not len(heavy))
        if found is None:
            continue
        count += 1
        whole = found.operand.source.to_dense()
        assert whole.shape == (found.first + rows, columns) and not found.first % PAIR_COORDINATES
        assert np.array_equal(np.unique(found.of), heavy) and (np.diff(found.of) >= 0).all()
        back = whole[found.first :]
        before = whole[: found.first]
        assert found.operand.virtual == len(found.of)
        assert not back[heavy].any() and not before[len(found.of) :].any()
        for row in heavy:
            ends = -1
            parts = before[: len(found.of)][found.of == row]
            assert abs(len(parts) - of_row[row] / quantum) <= 0.5 or quantum <= 16
            for part in parts:
                (at,) = np.nonzero(part)
                assert at[0] // 16 > ends  # in their order, and no block of two
                ends = at[-1] // 16
                own = weight[row, at[0] // 16 : ends + 1].sum()
                assert 0 < own <= of_row[row] / max(1, of_row[row] // quantum) + 16
                back[row] += part
        assert np.array_equal(back, dense)
    assert count > 30
