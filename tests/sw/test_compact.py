"""Hyper-sparse statements: only coordinates that matter are computed with."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue, Tensor
from loopnest.expression.compact import MIN_SIZE
from loopnest.formats.tensor import sparse_levels

INT8, BF16 = (Chip("single", dtype=dtype, backend="model") for dtype in ("int8", "bf16"))

N = 1 << 20


def hyper(rng, shape, count=60, used=40):
    """Return an array whose entries are in a few coordinates of each mode, the same by size."""
    places = [np.random.default_rng(n).choice(n, used, replace=False) for n in shape]
    at = np.unique(np.stack([rng.choice(p, count) for p in places]), axis=1)
    return sp.coo_array((rng.integers(1, 4, at.shape[1]) * 1.0, tuple(at)), shape)


def matrix(rng, shape=(N, N), count=60):
    return hyper(rng, shape, count).tocsr()


def sizes_of(chip):
    return [k.plan.sizes for k in chip.report._kernels]


def test_a_product_of_two_matrices():
    rng = np.random.default_rng(1)
    A, B = matrix(rng), matrix(rng)
    for chip in (INT8, BF16):
        C = chip.compute("C[i,j] = A[i,k] * B[k,j]", A=A, B=B)
        assert C.shape == (N, N) and C.nnz and (C != A @ B).nnz == 0
        (sizes,) = sizes_of(chip)
        assert max(sizes.values()) <= 40
        (kernel,) = chip.report._kernels
        assert sum(t.nbytes for t in kernel.tensors) < 4000


def test_it_is_said():
    """In the explanation and in the report: the sizes there are those of what is left."""
    rng = np.random.default_rng(1)
    A, x = matrix(rng), np.ones(N)
    statement = "y[i] = A[i,j] * x[j]"
    rows = [len(set(c.tolist())) for c in A.tocoo().coords]
    notes = tuple(
        f"index {i}: {n} of 1,048,576 coordinates, those that are stored"
        for i, n in zip("ij", rows, strict=True)
    )
    lines = str(INT8.explain(statement, A=A, x=x)).splitlines()
    assert [line for line in lines if line.startswith("index ")] == list(notes)
    assert INT8.explain(statement, A=A, x=x).to_dict()["kernels"][0]["stored"] == list(notes)
    INT8.compute(statement, A=A, x=x)
    assert INT8.report.stored == notes and f"{rows[0]} of 1,048,576" in str(INT8.report)
    few = A[:, :100][:100]
    assert "index " not in str(INT8.explain("y[i] = A[i,j]", A=few))


@pytest.mark.parametrize("levels", ["compressed,compressed", "dense,compressed"])
def test_tensors_keep_their_values_and_their_result_is_a_tensor(levels):
    rng = np.random.default_rng(2)
    A, B = matrix(rng), matrix(rng)
    a, b = (Tensor.from_scipy(m, levels=levels, wide=w) for m, w in ((A, True), (B, False)))
    C = BF16.compute("C[i,j] = A[i,k] * B[k,j]", A=a, B=b, out="compressed,compressed")
    assert isinstance(C, Tensor) and C.levels == ("compressed", "compressed")
    assert (C.to_scipy() != A @ B).nnz == 0
    assert max(sizes_of(BF16)[0].values()) <= 40


def test_one_tensor_twice():
    """Its two accesses have other coordinates left."""
    rng = np.random.default_rng(3)
    A = matrix(rng)
    assert (INT8.compute("C[i,j] = A[i,k] * A[k,j]", A=A) != A @ A).nnz == 0
    assert (INT8.compute("C[i,j] = A[i,j] + A[j,i]", A=A) != A + A.T).nnz == 0
    assert (INT8.compute("C[i,j] = A[i,j] * A[i,j]", A=A) != A.multiply(A)).nnz == 0


CASES = {
    "C[i,j] = A[i,j] + B[i,j]": lambda o: o["A"] + o["B"],
    "C[i,j] = A[i,j] - B[i,j] + A[i,j]": lambda o: 2 * o["A"] - o["B"],
    "y[i] = A[i,j] * d[j]": lambda o: o["A"] @ o["d"],
    "y[j] = A[i,j] * d[i]": lambda o: o["A"].T @ o["d"],
    "y[i] = A[i,j] * B[j,k] * d[k]": lambda o: o["A"] @ (o["B"] @ o["d"]),
    "y[i] = d[i] + A[i,j] * d[j]": lambda o: o["d"] + o["A"] @ o["d"],
    "C[i,j] = A[i,j] * (B[i,j] + M[i,j])": lambda o: o["A"].multiply(o["B"] + o["M"]),
    "C[i,j] = A[i,k] * B[k,j] where M[i,j]": lambda o: (o["A"] @ o["B"]).multiply(o["M"] != 0),
    "C[i,j] = A[i,j] where not M[i,j]": lambda o: o["A"] - o["A"].multiply(o["M"] != 0),
    "s = A[i,j] * B[i,j]": lambda o: o["A"].multiply(o["B"]).sum(),
    "C[i,r] = A[i,j] * E[j,r]": lambda o: o["A"] @ o["E"],
}


@pytest.mark.parametrize("text", CASES)
def test_statements(text):
    rng = np.random.default_rng(len(text))
    n = 2048
    operands = {name: matrix(rng, (n, n)) for name in "ABM"}
    operands |= {"d": rng.integers(1, 4, n) * 1.0, "E": rng.integers(1, 4, (n, 3)) * 1.0}
    names = {name for name in operands if name in text.split("=")[1].replace("where", "")}
    got = INT8.compute(text, **{name: operands[name] for name in names})
    want = CASES[text](operands)
    got, want = (x.toarray() if sp.issparse(x) else np.asarray(x) for x in (got, want))
    np.testing.assert_array_equal(got, want)
    used = [max(sizes.values()) for sizes in sizes_of(INT8)]
    assert max(used) == n if text.startswith("y[i] = d[i]") else max(used) <= 80


def test_a_tensor_of_order_3_whose_result_has_too_many_fibers():
    rng = np.random.default_rng(5)
    T, S = (hyper(rng, (N, N, N)) for _ in range(2))
    U = INT8.compute("U[i,j,k] = T[i,j,k] + S[i,j,k]", T=T, S=S, out="compressed," * 3)
    want = {}
    for array in (T, S):
        for *at, value in zip(*array.coords, array.data, strict=True):
            want[tuple(at)] = want.get(tuple(at), 0) + value
    assert dict(zip(zip(*U.coords, strict=True), U.data, strict=True)) == want


def test_min_plus_fills_with_infinity():
    rng = np.random.default_rng(6)
    n = 4096
    A, x = matrix(rng, (n, n)), rng.integers(1, 9, n) * 1.0
    y = BF16.compute("y[i] = A[i,j] * x[j]", A=A, x=x, semiring="min_plus", out="dense")
    want = np.full(n, np.inf)
    np.minimum.at(want, A.tocoo().coords[0], A.data + x[A.tocoo().coords[1]])
    np.testing.assert_array_equal(y, want)


def test_an_epilogue_that_makes_zero_something_else_visits_all():
    rng = np.random.default_rng(7)
    n = 2048
    A, x = matrix(rng, (n, n)), np.ones(n)
    for epilogue, add in (
        (Epilogue(bias=3), 3),
        (Epilogue(bias=np.arange(n) % 5), np.arange(n) % 5),
    ):
        y = INT8.compute("y[i] = A[i,j] * x[j]", A=A, x=x, epilogue=epilogue)
        np.testing.assert_array_equal(y, A @ x + add)
    y = INT8.compute("y[i] = A[i,j] * x[j]", A=A, x=x, epilogue=Epilogue(relu=True, out="narrow"))
    np.testing.assert_array_equal(y, A @ x)
    assert sizes_of(INT8)[0]["i"] <= 40


def test_nothing_is_left():
    A = sp.csr_array(([1.0], ([5], [7])), (N, N))
    B = sp.csr_array(([1.0], ([8], [7])), (N, N))
    C = INT8.compute("C[i,j] = A[i,k] * B[k,j]", A=A, B=B)
    assert C.shape == (N, N) and C.nnz == 0
    assert not INT8.compute("y[i] = A[i,j] * x[j]", A=A, x=np.zeros(N)).any()


def test_what_is_left_as_it_is():
    """Small indices, those that most coordinates of are used of, and large tensors."""
    rng = np.random.default_rng(8)
    small = matrix(rng, (MIN_SIZE - 1,) * 2)
    INT8.compute("y[i] = A[i,j] * x[j]", A=small, x=np.ones(MIN_SIZE - 1))
    assert sizes_of(INT8)[0]["i"] == MIN_SIZE - 1
    full = sp.eye_array(4096, format="csr")
    INT8.compute("y[i] = A[i,j] * x[j]", A=full, x=np.ones(4096))
    assert sizes_of(INT8)[0]["i"] == 4096
    graph = Tensor.from_scipy(full, dtype="int8")
    x = sp.coo_array(([1.0], ([9],)), (4096,))
    INT8.compute("y[j] = x[i] * A[i,j]", A=graph, x=x)
    assert sizes_of(INT8)[0]["i"] == 4096
    far = sp.coo_array(([1.0, 1.0], ([7, N - 1],)), (N,))
    assert INT8.compute("s = x[i] * y[i]", x=far, y=far) == 2
    assert sizes_of(INT8)[0]["i"] == N


def test_a_dense_result_that_is_too_large_is_refused():
    rng = np.random.default_rng(11)
    A = matrix(rng)
    message = r"C\[i,j\].* of shape .* takes about 4096.0 GB.*use out= with compressed levels"
    with pytest.raises(ValueError, match=message):
        INT8.compute("C[i,j] = A[i,k] * B[k,j]", A=A, B=A, out="dense,dense")


def test_an_order_is_kept():
    rng = np.random.default_rng(9)
    A, B = matrix(rng), matrix(rng)
    for order in ("ikj", "jki", "kij"):
        C = INT8.compute("C[i,j] = A[i,k] * B[k,j]", A=A, B=B, order=order)
        assert (C != A @ B).nnz == 0 and INT8.report._kernels[0].plan.loops == tuple(order)


def test_levels_of_a_result():
    assert sparse_levels(2) == ("dense", "compressed")
    rng = np.random.default_rng(10)
    A = matrix(rng, (2048, 2048))
    for out in ("dense,dense", "compressed,dense", "dense,compressed", "compressed,compressed"):
        tensor = Tensor.from_scipy(A, dtype="int8")
        C = INT8.compute("C[i,j] = A[j,i]", A=tensor, out=out)
        assert C.levels == tuple(out.split(",")) and (C.to_dense() == A.T.toarray()).all()
