"""Indices of more coordinates than a loop has: panels of them. Most tests have small panels."""

from itertools import permutations, product

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue, Tensor
from loopnest.formats import panels
from loopnest.formats.pack import CompressedLevel
from loopnest.formats.rows import take_rows
from loopnest.kernel.arena import Arena
from loopnest.program.start import Start
from loopnest.program.steps import HostStep

PANEL = 32
LARGE = (1 << 20) + 5
INT8 = Chip(dtype="int8", backend="model")
BF16 = Chip(dtype="bf16", backend="model")


LEVELS = list(product(("dense", "compressed"), repeat=3))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(panels, "PANEL", PANEL)


def drawn(seed, *shape, density=0.05):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) < density) * rng.integers(1, 4, shape)


def kernels(chip):
    return [str(run.kernel.plan.statement) for run in chip.report._runs]


@pytest.mark.parametrize("levels", LEVELS)
def test_a_tensor_of_any_levels(levels, small):
    array = drawn(1, 70, 33, 5)
    for order in permutations(range(3)):
        tensor = Tensor.from_dense(array, levels=levels, mode_order=order)
        np.testing.assert_array_equal(tensor.to_dense(), array)
        np.testing.assert_array_equal(tensor.T.to_dense(), array.T)
        np.testing.assert_array_equal(tensor.convert("dense,dense,compressed").to_dense(), array)
        wide = [m for m, kind in zip(order, levels, strict=True) if kind == "compressed" and m < 2]
        assert len(tensor.arrays) == 3 + len(wide)
        (*by_mode,), _ = tensor.stored_entries()
        in_order = [by_mode[m] for m in order]
        assert (np.lexsort(in_order[::-1]) == np.arange(len(by_mode[0]))).all()


def test_panels_are_ordinary_tensors(small):
    """A vector of 70 coordinates in panels of 32: those that hold something, and each one's own."""
    tensor = Tensor.from_coo([[1, 65, 69]], [5, 6, 7], (70,), dtype="int8")
    outer, inner = tensor.arrays
    assert outer.words.tolist() == [0b101]
    assert inner.words.tolist() == [0b10, 0b100010]
    assert inner.table.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(ValueError, match=r"level 0: coordinate 69: expected 0 to 68"):
        Tensor((69,), "compressed", tensor.arrays, tensor.values, dtype="int8")
    beyond = CompressedLevel(outer.table, np.array([0b1001], np.uint32))
    with pytest.raises(ValueError, match=r"level 0, .* coordinate at or above the size 3"):
        Tensor((70,), "compressed", [beyond, inner], tensor.values, dtype="int8")
    with pytest.raises(ValueError, match=r"1 level arrays: expected 2"):
        Tensor((70,), "compressed", [inner], tensor.values, dtype="int8")


def test_a_tensor_larger_than_a_panel():
    tensor = Tensor.from_coo([[3, LARGE - 1], [LARGE - 1, 0]], [1, 2], (LARGE, LARGE))
    (rows, columns), values = tensor.to_coo()
    assert (rows.tolist(), columns.tolist()) == ([3, LARGE - 1], [LARGE - 1, 0])
    assert values.tolist() == [1, 2]
    huge = Tensor.from_coo([[7, (1 << 32) - 1]], [1, 2], (1 << 32,))
    assert huge.nbytes < 100 and huge.to_coo()[0][0].tolist() == [7, (1 << 32) - 1]


@pytest.mark.parametrize("kind", ["csr", "csc", "tensor", "columns", "compressed", "array"])
def test_products(kind, small):
    A, B, x = (drawn(n, *shape, density=0.5) for n, shape in enumerate([(70, 40), (40, 33), (40,)]))
    levels = {
        "columns": ("dense,compressed", (1, 0)),
        "compressed": ("compressed,compressed", None),
    }

    def given(array):
        if kind == "array":
            return array
        if kind in ("csr", "csc"):
            return sp.coo_array(array).asformat(kind)
        own, order = levels.get(kind, ("dense,compressed", None))
        return Tensor.from_dense(array, levels=own, mode_order=order)

    for chip in (INT8, BF16):
        y = chip.compute("y[i] = A[i,j] * x[j]", A=given(A), x=x)
        np.testing.assert_array_equal(np.asarray(y), A @ x)
        C = chip.matmul(given(A), given(B))
        assert C.shape == (70, 33)
        np.testing.assert_array_equal(C if kind == "array" else C.toarray(), A @ B)
        assert len(kernels(chip)) == 3 * 2 * (2 + 1)


def test_statements(small):
    A, B = drawn(1, 70, 40), drawn(2, 70, 40)
    b, d, v = drawn(3, 70, density=0.9), drawn(4, 40, density=0.9), drawn(5, 70)
    sparse = {
        "A": sp.csr_array(A),
        "S": sp.csr_array(A[:40]),
        "B": sp.csr_array(B),
        "v": sp.coo_array(v),
    }
    operands = {**sparse, "b": b, "d": d}
    for statement, expected in (
        ("x[i] = b[i] - A[i,j] * d[j]", b - A @ d),
        ("x[i] = A[i,j] * d[j] - B[i,j] * d[j] + v[i]", A @ d - B @ d + v),
        ("X[i,j] = A[i,j] + B[i,j]", A + B),
        ("X[j,i] = A[i,j] - B[i,j]", (A - B).T),
        ("t = A[i,j] * B[i,j]", (A * B).sum()),
        ("x[i] = b[i] * (v[i] + A[i,j] * d[j])", b * (40 * v + A @ d)),
        ("X[i,k] = A[i,j] * B[k,j] * d[j]", (A * d) @ B.T),
        ("x[i] = b[i+3] - b[i]", b[3:] - b[:-3]),
        ("x[i] = A[i+2,j] * d[j]", A[2:] @ d),
        ("t = S[i,i]", A[:40].trace()),
        ("X[i,j] = A[i,j] * d[j] where v[i]", A * d * (v != 0)[:, None]),
        ("X[i,j] = A[i,j] * d[j] where not B[i,j]", A * d * (B == 0)),
        ("x[i] = A[i,j] * d[j] where not v[i]", (A @ d) * (v == 0)),
    ):
        used = {name: x for name, x in operands.items() if f"{name}[" in statement}
        found = INT8.compute(statement, **used)
        found = found.toarray() if sp.issparse(found) else found
        np.testing.assert_array_equal(found, expected, statement)


def test_semirings(small):
    A, x = drawn(1, 70, 40), drawn(2, 40)
    A[40:50] = 0
    given = {"A": sp.csr_array(A), "x": sp.coo_array(x)}
    there = (A[:, None, :] != 0) & (x != 0)
    for name, terms, zero in (
        ("min_plus", A + x, np.inf),
        ("max_times", A * x, -np.inf),
        ("or_and", (A * x != 0) * 1, 0),
    ):
        best = np.min if name == "min_plus" else np.max
        expected = best(np.where(there[:, 0], terms, zero), axis=1)
        y = BF16.compute("y[i] = A[i,j] * x[j]", out="dense", semiring=name, **given)
        np.testing.assert_array_equal(y, expected)
        y = BF16.compute("y[i] = A[i,j] * x[j]", out="compressed", semiring=name, **given)
        assert y.nnz == there.any(axis=(1, 2)).sum()
        np.testing.assert_array_equal(y.toarray(), np.where(there.any(axis=(1, 2)), expected, 0))


@pytest.mark.parametrize("order", [None, "i"])
def test_a_zero_does_not_hide_a_negative_maximum(order, small):
    """A panel without terms is no term: the maximum of those there are is -6."""
    a, b = np.zeros(100), np.zeros(100)
    a[[50, 90]], b[[50, 70]] = -3, 2
    given = {"a": sp.coo_array(a), "b": sp.coo_array(b), "semiring": "max_times_0"}
    assert BF16.compute("t = a[i] * b[i]", order=order, **given) == -6
    found = BF16.compute("x[j] = a[i] * b[i] + c[j]", c=sp.coo_array(-np.eye(1, 40)[0]), **given)
    np.testing.assert_array_equal(found.toarray(), [-1, *[-6] * 39])


def test_the_order_of_additions(small):
    """Panels in their order, as many at a time as a kernel has operands."""
    rng = np.random.default_rng(1)
    a = rng.integers(1, 200, 5 * PANEL).astype(np.float32) * np.float32(2) ** rng.integers(
        -9, 9, 5 * PANEL
    ).astype(np.float32)
    whole = BF16.compute("t = a[i]", a=a)
    p = [BF16.compute("t = a[i]", a=a[n : n + PANEL]) for n in range(0, len(a), PANEL)]
    first = BF16.compute("t = a + b + c", a=Tensor.from_dense(p[0], dtype="bf16", wide=True),
                         b=Tensor.from_dense(p[1], dtype="bf16", wide=True),
                         c=Tensor.from_dense(p[2], dtype="bf16", wide=True)).to_dense()  # fmt: skip
    assert whole == (first + p[3]) + p[4] or whole == first + (p[3] + p[4])
    BF16.compute("t = a[i]", a=a)
    added = [text for text in kernels(BF16) if "part" in text.split("=")[1]]
    assert added == ["part4 = part1 + part2 + part3", "t = part4 + part5 + part6"]


def test_an_epilogue_in_panels(small):
    A, x = drawn(1, 70, 40), drawn(2, 40, density=0.9) - 2
    bias = np.arange(70) - 30
    expected = np.maximum(A @ x + bias, 0)
    given = {"A": sp.csr_array(A), "x": x}
    epilogue = Epilogue(bias=bias, relu=True, out="narrow")
    y = INT8.compute("y[i] = A[i,j] * x[j]", epilogue=epilogue, **given)
    np.testing.assert_array_equal(y, expected)
    columns = Epilogue(bias=bias, scale=np.full((40, 1), 2))
    Y = INT8.compute("Y[j,i] = A[i,j] * x[j]", out="dense,dense", epilogue=columns, **given)
    np.testing.assert_array_equal(Y, 2 * ((A * x).T + bias))
    with pytest.raises(ValueError, match=r"bias of shape \(32,\): expected one that .* \(70,\)"):
        INT8.compute("y[i] = A[i,j] * x[j]", epilogue=Epilogue(bias=bias[:32]), **given)


def test_panels_without_entries_have_no_kernel(small):
    A = np.zeros((90, 90), int)
    A[3, 40] = A[80, 5] = 2
    x = np.arange(90)
    y = INT8.compute("y[i] = A[i,j] * x[j]", A=sp.csr_array(A), x=x)
    np.testing.assert_array_equal(y, A @ x)
    assert len(kernels(INT8)) == 2
    B = sp.csr_array(A.T)
    C = INT8.compute("C[i,j] = A[i,k] * B[k,j]", A=sp.csr_array(A), B=B)
    np.testing.assert_array_equal(C.toarray(), A @ A.T)
    assert len(kernels(INT8)) == 2
    y = INT8.compute("y[i] = b[i] + A[i,j] * x[j]", A=sp.csr_array((90, 90)), x=x, b=x)
    np.testing.assert_array_equal(y, x)
    for out in ("dense", "compressed"):
        y = BF16.compute(
            "y[i] = A[i,j] * x[j]", A=sp.csr_array((90, 90)), x=x, out=out, semiring="min_plus"
        )
        assert y.nnz == 0 if out == "compressed" else np.isinf(y).all()


def test_panels_are_explained(small):
    A = drawn(1, 40, 40, density=0.5)
    text = str(INT8.explain("y[i] = A[i,j] * x[j]", A=sp.csr_array(A), x=np.arange(40)))
    assert text.startswith(
        "y[i] = A[i,j] * x[j]   in 6 kernels\n\nhost: slice A along i, 0 to 31\n"
    )
    assert "host: slice x along j, 32 to 39\n\npart1[i] = A[i,j] * x[j]\n" in text
    assert text.endswith("\n\nhost: join 2 slices along i")


def test_panels_of_a_run_are_stored_without_their_zeros(small):
    d, E = sp.coo_array(np.ones(8)), np.zeros((8, 70))
    E[1, 2] = E[5, 0] = 3
    program = loopnest.compile("x[i] = d[k] * E[k,i]", {"d": d, "E": E}, chip=INT8)
    for given in (E, np.ones(E.shape), drawn(1, *E.shape), E):
        np.testing.assert_array_equal(program.run(E=given)["x"], given.sum(axis=0))


def test_a_panel_in_which_a_mask_keeps_nothing(small):
    text = Assignment(statement="X[i,j] = B[i,j] where M[i]", epilogue=Epilogue(bias=2.0))
    B, M = drawn(1, 70, 3), np.ones(70)
    program = loopnest.compile(text, {"B": B, "M": M}, chip=INT8)
    for mask in (M, np.arange(70) >= 40, np.arange(70) < 40, M * 0, M):
        expected = (B + 2) * mask[:, None]
        np.testing.assert_array_equal(program.run(M=mask * 1.0)["X"], expected)


def test_programs(small, tmp_path):
    A, x = drawn(1, 70, 40), drawn(2, 40, density=0.9)
    A[:32, :32] = 0
    steps = ["h[i] = A[i,j] * x[j]", "y[j] = A[i,j] * h[i]"]
    given = {"A": sp.csr_array(A), "x": x}
    program = loopnest.compile(steps, given, chip=INT8)
    np.testing.assert_array_equal(program(), A.T @ (A @ x))
    other = sp.csr_array(drawn(7, 70, 40))
    np.testing.assert_array_equal(program.run(A=other)["y"], other.T @ (other @ x))
    program.save(tmp_path / "program.lnp")
    loaded = loopnest.load(tmp_path / "program.lnp", chip=INT8)
    np.testing.assert_array_equal(loaded(), A.T @ (A @ x))
    with pytest.raises(ValueError, match=r"A: .* leaves out coordinates"):
        loaded.run(A=other)
    with_x = loopnest.compile(steps[:1], {"A": other, "x": x}, chip=INT8)
    assert not with_x.contents.bound[0].fixed
    np.testing.assert_array_equal(with_x.run(x=x[::-1])["h"], other @ x[::-1])


def test_sizes_above_a_panel():
    rng = np.random.default_rng(1)
    at = [rng.integers(0, LARGE, 3000) for _ in range(2)]
    at[0][:2] = at[1][1:3] = LARGE - 1
    A = sp.csr_array(sp.coo_array((np.ones(3000), tuple(at)), (LARGE, LARGE)))
    A.data = np.minimum(A.data, 100)
    x = rng.integers(-3, 4, LARGE)
    y = INT8.compute("y[i] = A[i,j] * x[j]", A=A, x=x)
    np.testing.assert_array_equal(y, A @ x)
    C = INT8.matmul(A, A)
    assert (C != A @ A).nnz == 0 and C.nnz == (A @ A).nnz
    d = np.arange(LARGE) % 100
    difference = INT8.compute("y[i] = d[i+1] - d[i]", d=d)
    np.testing.assert_array_equal(difference, np.diff(d))
    first, second = (sp.coo_array(([2, 3], ([5, 1 << 31],)), (1 << 32,)) for _ in range(2))
    assert INT8.compute("t = a[i] * b[i]", a=first, b=second) == 13
    assert len(kernels(INT8)) == 1


def test_a_table_is_gathered():
    rng = np.random.default_rng(1)
    table = rng.integers(-100, 100, (LARGE, 2)).astype(np.int8)
    rows = rng.integers(0, LARGE, 20)
    chosen = sp.coo_array((np.ones(20), (np.arange(20), rows)), (20, LARGE))
    found = INT8.compute("Y[b,d] = S[b,r] * T[r,d]", S=chosen, T=table)
    np.testing.assert_array_equal(found, table[rows])


@pytest.mark.parametrize("levels", [levels for levels in LEVELS if levels[0] == "dense"])
def test_rows_of_a_tensor_share_its_arrays(levels):
    array = drawn(1, 9, 4, 50)
    tensor = Tensor.from_dense(array, levels=levels, mode_order=(1, 0, 2), dtype="int8")
    for start, stop in ((0, 4), (1, 3), (3, 4), (2, 2)):
        part = take_rows(tensor, start, stop)
        np.testing.assert_array_equal(part.to_dense(), array[:, start:stop])
        assert np.shares_memory(part.values, tensor.values) or not part.values.size
        packed = Tensor.from_dense(array[:, start:stop], levels=levels, mode_order=(1, 0, 2))
        for one, other in zip(part.arrays, packed.arrays, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(one.words, other.words)
                np.testing.assert_array_equal(one.table, other.table)


def test_rows_that_cannot_be_shared(small):
    matrix = drawn(1, 9, 5)
    assert take_rows(Tensor.from_dense(matrix, levels="compressed,dense"), 0, 4) is None
    assert take_rows(Tensor.from_dense(drawn(1, 9, 50), levels="dense,compressed"), 0, 4) is None
    tensor = Tensor.from_dense(matrix, levels="dense,compressed", dtype="int8")
    assert take_rows(tensor, 3, 9).nnz == np.count_nonzero(matrix[3:])
    # two rows whose values are in the other order
    level = CompressedLevel(np.array([0, 1, 1, 0, 2], np.uint32), np.array([1, 2], np.uint32))
    values = np.array([4, 5], np.int8)
    crossed = Tensor((2, 9), "dense,compressed", [None, level], values, dtype="int8")
    assert take_rows(crossed, 0, 2) is None
    assert take_rows(crossed, 0, 1).to_dense()[0, 0] == 5


def test_memory_that_is_too_small():
    arena = Arena((1 << 32) - 4096)
    tensor = Tensor.from_dense(np.zeros((3, 2048)), dtype="int8")
    what = r"operand A of shape \(3, 2048\) takes 6144 bytes: 4096 bytes of 4.0 GB, the memory"
    with pytest.raises(ValueError, match=what):
        arena.place(tensor, "A")
    with pytest.raises(ValueError, match=r"A: a dense tensor of shape .* takes 8589934592 bytes"):
        A = np.broadcast_to(np.int8(1), (1 << 20, 1 << 13))
        INT8.compute("y[i] = A[i,j] * x[j]", A=A, x=np.ones(1 << 13))
    available = r"x\[i,j\] = .*: this result of shape .* takes about .* GB: expected up to"
    with pytest.raises(ValueError, match=available):
        INT8.compute("x[i,j] = a[i] * b[j]", a=np.ones(LARGE), b=np.ones(LARGE))


def test_panels_of_a_result_stay_in_the_chips_memory(small):
    """What one statement computes in panels, the next one reads in these: nothing is joined."""
    A, x = drawn(1, 70, 70, density=0.5), drawn(2, 70, density=0.9)
    steps = ["h[i] = A[i,j] * x[j]", "y[i] = A[i,j] * h[j]"]
    program = loopnest.compile(steps, {"A": A, "x": x}, chip=BF16)
    np.testing.assert_array_equal(program(), A @ (A @ x).astype(np.float32))
    host = [step.what for step in program.contents.stages if isinstance(step, HostStep)]
    assert [what for what in host if "h" in what] == []
    assert host.count("join 3 slices along i") == 1
    assert sum(isinstance(stage, Start) for stage in program.contents.stages) == 1
    both = loopnest.compile([*steps, "z[i] = h[i+1] - h[i]"], {"A": A, "x": x}, chip=BF16)
    y, z = both()
    np.testing.assert_array_equal(y, A @ (A @ x))
    np.testing.assert_array_equal(z, np.diff(A @ x))
