"""Every kind of kernel on the golden model, against SciPy and NumPy."""

import inspect

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from loopnest import Chip, ChipError, Tensor
from loopnest.expression.parser import MAX_OPERATORS
from loopnest.program.prepare import TAKEN
from tests.sw.tensors import arrays, dense, shapes, sparse

CHIPS = {dtype: Chip(dtype=dtype, backend="model") for dtype in ("bf16", "int8")}
KERNEL = settings(max_examples=40, deadline=None)

formats = st.sampled_from(sorted(CHIPS))


def check(result, expected):
    """Small integers are exact in both formats."""
    assert np.array_equal(dense(result), np.asarray(expected, np.float64))


@KERNEL
@given(
    st.data(),
    formats,
    st.sampled_from(["ikj", "ijk", "kij", "kji", "jik", "jki", None]),
    st.sampled_from([None, "dense,dense", "dense,compressed", "compressed,compressed"]),
)
def test_products_of_matrices(data, dtype, order, out):
    i, k, j = data.draw(shapes(3))
    a, b = data.draw(arrays((i, k))), data.draw(arrays((k, j)))
    chip = CHIPS[dtype]
    for left in (sparse(a), a):
        for right in (sparse(b), b):
            check(chip.einsum("ik,kj->ij", left, right, order=order, out=out), a @ b)


@KERNEL
@given(
    st.data(),
    formats,
    st.sampled_from(["ik", "ki", None]),
    st.sampled_from(["dense", "compressed"]),
)
def test_products_with_vectors(data, dtype, order, out):
    i, k = data.draw(shapes(2))
    a, x = data.draw(arrays((i, k))), data.draw(arrays((k,)))
    for vector in (sparse(x), x):
        check(CHIPS[dtype].einsum("ik,k->i", sparse(a), vector, order=order, out=out), a @ x)


@KERNEL
@given(st.data(), formats)
def test_sampled_product(data, dtype):
    i, j, k = data.draw(shapes(3, most=20))
    mask = data.draw(arrays((i, j), low=-1, high=1))
    a, b = data.draw(arrays((i, k))), data.draw(arrays((k, j)))
    got = CHIPS[dtype].compute("C[i,j] = S[i,j] * A[i,k] * B[k,j]", S=sparse(mask), A=a, B=b)
    assert sp.issparse(got)
    check(got, mask * (a @ b))


@KERNEL
@given(
    st.data(), formats, st.sampled_from(["ij", "ji", None]),
    st.sampled_from([None, "dense,dense", "compressed,compressed"]),
)  # fmt: skip
def test_elementwise(data, dtype, order, out):
    shape = data.draw(shapes(2))
    a, b, c = (data.draw(arrays(shape, low=-4, high=4)) for _ in range(3))
    d = data.draw(arrays(shape[1:], low=-4, high=4))
    chip = CHIPS[dtype]
    sa, sb, sc = sparse(a), sparse(b), sparse(c)

    def run(text, **operands):
        return chip.compute(f"R[i,j] = {text}", order=order, out=out, **operands)

    check(run("A[i,j] * B[i,j]", A=sa, B=sb), a * b)
    check(run("A[i,j] + B[i,j]", A=sa, B=sb), a + b)
    check(run("A[i,j] - B[i,j] + C[i,j]", A=sa, B=sb, C=sc), a - b + c)
    check(run("A[i,j] * B[i,j] * C[i,j]", A=sa, B=sb, C=c), a * b * c)
    check(run("A[i,j] + B[i,j]", A=sa, B=b), a + b)
    check(run("A[i,j] * (B[i,j] - C[i,j])", A=sa, B=sb, C=sc), a * (b - c))
    check(run("A[i,j] * (B[i,j] + d[j])", A=sa, B=sb, d=d), a * (b + d))
    check(run("A[i,j] - d[j]", A=sa, d=sparse(d)), a - d)


@KERNEL
@given(st.data(), formats)
def test_vectors_and_scalars(data, dtype):
    shape = data.draw(shapes(1))
    x, y = data.draw(arrays(shape)), data.draw(arrays(shape))
    chip = CHIPS[dtype]
    check(chip.compute("s = x[i] * y[i]", x=sparse(x), y=y), x @ y)
    check(chip.compute("s = x[i]", x=sparse(x)), x.sum())
    check(chip.compute("z[i] = x[i] - y[i]", x=sparse(x), y=sparse(y)), x - y)
    check(chip.compute("z[i] = a * x[i]", a=3, x=sparse(x)), 3 * x)
    check(chip.compute("C[i,j] = x[i] * y[j]", x=sparse(x), y=y), np.outer(x, y))


@KERNEL
@given(
    st.data(), st.sampled_from(["dense", "compressed"]), st.sampled_from(["dense", "compressed"])
)
def test_tensors_of_every_mix(data, first, second):
    i, k, j = data.draw(shapes(3, most=20))
    a, b = data.draw(arrays((i, k))), data.draw(arrays((k, j)))
    modes = data.draw(st.permutations([0, 1]))
    ta = Tensor.from_dense(a, levels=(first, second), mode_order=modes)
    tb = Tensor.from_dense(b, levels=(second, first))
    got = CHIPS["bf16"].matmul(ta, tb)
    assert isinstance(got, Tensor) and got.wide
    check(got, a @ b)
    # The result, whose table has stride 4, is an operand again.
    check(CHIPS["bf16"].compute("C[i,j] = P[i,j] + Q[i,j]", P=got, Q=got), 2 * (a @ b))


@KERNEL
@given(st.integers(0, 1 << 32), st.sampled_from(["ikj", "ijk"]))
def test_bf16_within_the_rounding_bound(seed, order):
    """Products of two bf16 numbers are exact in fp32. A sum of n of them, in any order, is off by
    at most (n - 1) u / (1 - (n - 1) u) times the sum of magnitudes, u = 2^-24 (Higham, 2002); each
    flush to zero adds less than 2^-126.
    """
    rng = np.random.default_rng(seed)
    a, b = (
        sp.random_array(
            shape, density=0.3, rng=rng, data_sampler=lambda size: rng.normal(size=size)
        )
        for shape in ((13, 40), (40, 21))
    )
    exact = [Tensor.from_scipy(m, dtype="bf16").to_dense().astype(np.float64) for m in (a, b)]
    got = dense(CHIPS["bf16"].einsum("ik,kj->ij", a, b, order=order))
    n = 40 * 2.0**-24
    bound = n / (1 - n) * (np.abs(exact[0]) @ np.abs(exact[1])) + 2 * 40 * 2.0**-126
    assert (np.abs(got - exact[0] @ exact[1]) <= bound).all()


def test_a_million_columns():
    n = 1 << 20
    rng = np.random.default_rng(1)
    b = sp.coo_array(
        (rng.integers(1, 9, 300), (rng.integers(0, 7, 300), rng.integers(0, n, 300))), (7, n)
    )
    a = sp.csr_array(rng.integers(-9, 9, (5, 7)))
    expected = (a @ b.tocsr()).tocsr()
    got = CHIPS["int8"].matmul(a, b)
    assert (got != expected).nnz == 0 and got.shape == (5, n)


def test_the_pattern_of_a_result_is_structural():
    a = sp.csr_array([[1, -1], [0, 0]])
    got = CHIPS["int8"].matmul(a, sp.csr_array([[2], [2]]))
    assert got.nnz == 1 and got.toarray().tolist() == [[0], [0]]


def test_results_have_the_users_types():
    chip, a, x = CHIPS["int8"], sparse(np.eye(3, dtype=int)), np.arange(3)
    assert isinstance(chip.matmul(a, a), sp.csr_array)
    assert isinstance(chip.matmul(a, x), np.ndarray)
    assert isinstance(chip.matmul(a, sparse(x)), sp.coo_array)
    assert isinstance(chip.matmul(Tensor.from_scipy(a, dtype="int8"), x), Tensor)
    assert chip.matmul(x, x) == 5 and chip.matmul(x, x).dtype == np.int32
    assert CHIPS["bf16"].matmul(a, x).dtype == np.float32


def test_a_tensor_used_twice():
    a = sparse(np.arange(9).reshape(3, 3))
    check(CHIPS["int8"].compute("C[i,j] = A[i,k] * A[k,j]", A=a), (a @ a).toarray())


def test_results_that_do_not_fit_are_run_again(monkeypatch):
    monkeypatch.setattr("loopnest.kernel.lower.CAPACITY", 0)
    monkeypatch.setattr("loopnest.kernel.lower.MIN_CAPACITY", 1)
    a = sparse(np.arange(400).reshape(20, 20) % 5)
    check(CHIPS["int8"].compute("C[i,j] = A[i,j] + B[i,j]", A=a, B=a), 2 * a.toarray())


def test_errors_name_the_argument():
    chip, a = CHIPS["int8"], sparse(np.eye(3, dtype=int))
    with pytest.raises(ValueError, match=r"operand 'B' .* is missing: expected B="):
        chip.compute("C[i,j] = A[i,k] * B[k,j]", A=a)
    with pytest.raises(ValueError, match=r"operand 'D': .* does not have it"):
        chip.compute("C[i,j] = A[i,j]", A=a, D=a)
    with pytest.raises(ValueError, match=r"A: value 0\.5 at \(0, 0\): expected an integer"):
        chip.compute("C[i,j] = A[i,j]", A=a * 0.5)
    with pytest.raises(TypeError, match=r"A: values of type complex128"):
        chip.compute("C[i,j] = A[i,j]", A=a * 1j)
    with pytest.raises(ValueError, match="out: levels 'dense': expected 2"):
        chip.compute("C[i,j] = A[i,j]", A=a, out="dense")
    with pytest.raises(ValueError, match="matmul: B is a number"):
        chip.matmul(a, 3)
    with pytest.raises(ValueError, match="backend 'verilog': expected one of rtl, model"):
        Chip(backend="verilog")
    with pytest.raises(ValueError, match="config field 'lanes'"):
        Chip(backend="model", lanes=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"statement": 5}, "statement=5: expected a string"),
        ({"order": 5}, "order=5: expected a string or a sequence of strings"),
        ({"order": [["i"]]}, r"order=\[\['i'\]\]: expected a string or a sequence of strings"),
        ({"out": 5}, "out: levels=5: expected a string or a sequence"),
        ({"semiring": [1]}, r"semiring=\[1\]: expected a string"),
        ({"complement": "no"}, "complement='no': expected True or False"),
        ({"complement": 1, "mask": np.ones(3)}, "complement=1: expected True or False"),
        ({"mask": "abc"}, "mask is str of <U3: expected"),
    ],
)
def test_arguments_of_another_type(arguments, message):
    given = {"statement": "y[i] = x[i]", "x": np.ones(3), **arguments}
    for run in (CHIPS["int8"].compute, CHIPS["int8"].explain):
        with pytest.raises(TypeError, match=message):
            run(**given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory": 5}, "memory=5: expected a Memory or None"),
        ({"multipliers": 8.0}, r"multipliers=8\.0: expected an integer"),
        ({"slots": True}, "slots=True: expected an integer"),
    ],
)
def test_bad_chip_arguments(arguments, message):
    with pytest.raises(TypeError, match=message):
        Chip(backend="model", **arguments)


def test_operands_named_like_an_argument():
    arguments = inspect.signature(Chip.compute).parameters
    assert set(TAKEN) == set(arguments) - {"operands"}
    for name in TAKEN:
        with pytest.raises(ValueError, match=f"'{name}' is an argument of compute: expected ano"):
            CHIPS["int8"].compute(f"y[i] = {name}[i] * x[i]", x=np.ones(3))
    check(CHIPS["int8"].compute("out[i] = x[i]", x=np.ones(3)), np.ones(3))


def test_operands_of_products_are_named():
    chip = CHIPS["int8"]
    with pytest.raises(ValueError, match=r"^B: list whose parts differ in shape"):
        chip.matmul(np.ones((2, 2)), [[1], [2, 3]])
    with pytest.raises(TypeError, match=r"^A is NoneType of object: expected"):
        chip.matmul(None, np.ones(2))
    check(chip.matmul([[1, 2], [3, 4]], [1, 1]), [3, 7])
    with pytest.raises(TypeError, match="subscripts=5: expected a string"):
        chip.einsum(5)
    check(chip.einsum(",".join(["i"] * 28) + "->i", *[np.array([1, -1, 0])] * 28), [1, 1, 0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+".join(["x[i]"] * (MAX_OPERATORS + 1)), MAX_OPERATORS + 1),
        ("(" * MAX_OPERATORS + "x[i]" + ")" * MAX_OPERATORS, 1),
        ("-" * MAX_OPERATORS + "x[i]", 1),
        ("x[i]-(" * (MAX_OPERATORS // 2) + "x[i]" + ")" * (MAX_OPERATORS // 2), 1),
    ],
)
def test_the_largest_statements(text, expected):
    """None of them nests deeper than Python can follow."""
    check(CHIPS["bf16"].compute(f"y[i] = {text}", x=np.ones(2)), [expected] * 2)


@pytest.mark.parametrize(
    ("text", "size", "shape"),
    [
        ("Y[i,j] = a[i] * b[j]", 1 << 16, r"\(65536, 65536\) takes about 16.0 GB"),
        ("Y[i,j] = A[i,j]", 1 << 20, r"\(1048576, 1048576\) takes about 4096.0 GB"),
        ("Y[i,j] = A[i,k] * A[k,j]", 1 << 20, r"\(1048576, 1048576\) takes"),
        ("Y[i,j] = A[i,j] + A[i,j] + A[i,j] + A[i,j]", 1 << 20, r"\(1048576, 1048576\) takes"),
    ],
)
def test_dense_results_larger_than_memory(text, size, shape):
    """They are refused before the host allocates them."""
    made = {
        "a": np.ones(size), "b": np.ones(size), "A": sp.coo_array(([2], ([1], [1])), (size, size))
    }  # fmt: skip
    operands = {name: array for name, array in made.items() if f"{name}[" in text}
    message = rf"Y\[i,j\].* of shape {shape}.*: expected up to .* GB, .*; use out= with compressed"
    with pytest.raises(ValueError, match=message):
        CHIPS["bf16"].compute(text, out="dense,dense", **operands)


def test_report(tmp_path):
    chip = Chip(dtype="int8", backend="model")
    a = sparse(np.eye(20, dtype=int))
    chip.matmul(a, a, order="ikj")
    report = chip.report
    assert report.multiplies == 20 and report.leaf_steps == 20 and report.cycles is None
    assert report.roof >= 5 and report.pe_roof >= 20 and report.roof_share is None
    assert "multiplies" in str(report) and "C[i,j]" not in str(report)
    report.save(tmp_path / "report.json")
    assert '"multiplies": 20' in (tmp_path / "report.json").read_text()


def test_another_order_where_slots_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order with the lowest estimate may need more slots than there are."""
    monkeypatch.setattr("loopnest.loops.planner._worth", lambda plan: (plan.result.replayable, 0.0))
    chip = Chip("shrunk", dtype="int8", backend="model")
    A, x = sp.random_array((9, 200), density=0.5, rng=1), np.arange(200)
    A.data = np.rint(A.data * 5)
    np.testing.assert_array_equal(
        chip.compute("Y[i,j] = A[i,k] * B[k,j]", A=A, B=x[:, None] % 5 * np.ones(100)),
        A @ (x[:, None] % 5 * np.ones(100)),
    )
    with pytest.raises(ChipError, match="SLOTS"):
        chip.compute("Y[i,j] = A[i,k] * B[k,j]", A=A, B=np.ones((200, 100)), order="kij")
