"""Products of three factors and more: which kernels they become."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue, Memory, Tensor
from loopnest.benchmarks.contractions import WITHIN, Product, draw_product, run_product
from loopnest.benchmarks.drawn import draw
from loopnest.expression.parser import parse
from loopnest.memory import result_bytes
from loopnest.program.explain import Explanation

BF16 = Chip(dtype="bf16", backend="model", memory=Memory(latency=100))
INT8 = Chip(dtype="int8", backend="model")


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return an array without zeros."""
    return (rng.integers(1, 4, shape) * rng.choice([-1, 1], shape)).astype(float)


def sparse(rng: np.random.Generator, shape: Sequence[int], density: float) -> Any:
    array = sp.random_array(tuple(shape), density=density, format="coo", rng=rng)
    array.data = rng.integers(1, 4, array.nnz).astype(float)
    return array.asformat("csr") if len(shape) == 2 else array


def scattered(rng: np.random.Generator, shape: Sequence[int], count: int) -> sp.coo_array:
    """Return a tensor of so many entries, anywhere; it may be too large to be made dense."""
    at = tuple(rng.integers(0, size, count) for size in shape)
    return sp.coo_array((rng.integers(1, 4, count).astype(float), at), tuple(shape))


def statements(explained: Explanation) -> list[str]:
    return [str(plan.statement) for plan in explained.plans]


def cycles(explained: Explanation) -> float:
    return sum(plan.cycles for plan in explained.plans)


def dense(result: Any) -> Any:
    return result.toarray() if sp.issparse(result) else np.asarray(result)


ADAPTER = "Y[i,l] = A[i,j] * D[j,k] * E[k,l]"


def test_a_low_rank_adapter_is_two_products():
    rng = np.random.default_rng(1)
    A, D, E = sparse(rng, (500, 500), 0.03), whole(rng, 500, 8), whole(rng, 8, 500)
    got = BF16.explain(ADAPTER, A=A, D=D, E=E)
    assert statements(got) == ["part1[i,k] = A[i,j] * D[j,k]", "Y[i,l] = part1[i,k] * E[k,l]"]
    one = BF16.explain(f"Y[i,l] = ({ADAPTER.split('= ')[1]})", A=A, D=D, E=E)
    assert len(one.plans) == 1
    assert cycles(got) < 600_000 < 7_000_000 < cycles(one)


def test_a_vector_is_multiplied_first():
    rng = np.random.default_rng(1)
    A, B, x = sparse(rng, (500, 500), 0.03), sparse(rng, (500, 500), 0.03), whole(rng, 500)
    got = BF16.explain("y[i] = A[i,j] * B[j,k] * x[k]", A=A, B=B, x=x)
    assert statements(got) == ["part1[j] = B[j,k] * x[k]", "y[i] = part1[j] * A[i,j]"]
    assert cycles(got) < 10_000
    forced = BF16.explain("y[i] = (A[i,j] * B[j,k]) * x[k]", A=A, B=B, x=x)
    assert statements(forced)[0] == "part1[i,k] = (A[i,j] * B[j,k])"


def test_a_sampled_product_stays_one_kernel():
    rng = np.random.default_rng(1)
    S, c, d = sparse(rng, (80, 80), 0.02), whole(rng, 80, 20), whole(rng, 20, 80)
    got = BF16.explain("X[i,j] = S[i,j] * c[i,k] * d[k,j]", S=S, c=c, d=d)
    assert len(got.plans) == 1


@pytest.mark.parametrize("chip", [BF16, INT8])
def test_what_is_forced(chip):
    rng = np.random.default_rng(2)
    operands = {"A": sparse(rng, (30, 30), 0.2), "D": whole(rng, 30, 4), "E": whole(rng, 4, 30)}
    A, D, E = operands["A"].toarray(), operands["D"], operands["E"]
    for text, kernels in (
        (ADAPTER, 2),
        ("Y[i,l] = (A[i,j] * D[j,k] * E[k,l])", 1),
        ("Y[i,l] = A[i,j] * (D[j,k] * E[k,l])", 2),
        ("Y[i,l] = -(A[i,j] * (D[j,k] * E[k,l]))", 2),
        # a product takes one wide factor: the second one's parentheses mean nothing
        ("Y[i,l] = (A[i,j] * D[j,k]) * (E[k,l] * A[l,m])", 3),
    ):
        got = chip.compute(text, **operands)
        expected = A @ D @ E
        expected = expected * A.sum(1) if "m" in text else expected
        np.testing.assert_array_equal(got, -expected if "-" in text else expected)
        assert len(chip.report._kernels) == kernels
    chip.compute(ADAPTER, order="ijkl", **operands)
    assert chip.report.order == "ijkl"


def test_tensors_of_large_modes():
    """By the sizes alone, two dense factors would be multiplied first."""
    rng = np.random.default_rng(3)
    shape = (2482, 2862, 14036, 17)
    A = scattered(rng, shape, 150)
    B, C, D = (whole(rng, size, 4) for size in shape[1:])
    got = BF16.compute("M[i,r] = A[i,j,k,l] * B[j,r] * C[k,r] * D[l,r]", A=A, B=B, C=C, D=D)
    (i, j, k, l), expected = A.coords, np.zeros((shape[0], 4))
    np.add.at(expected, i, A.data[:, None] * B[j] * C[k] * D[l])
    np.testing.assert_array_equal(got, expected)
    # a table of all of (i, j, l) would take 1.9 GB
    assert all(result_bytes(kernel.plan) < 1 << 24 for kernel in BF16.report._kernels)


def test_a_part_is_compressed_where_it_has_few_entries():
    rng = np.random.default_rng(3)
    A = scattered(rng, (1605, 4198, 1631), 150)
    U, V = whole(rng, 4198, 8), whole(rng, 1631, 8)
    text = "Y[i,r,s] = A[i,j,k] * U[j,r] * V[k,s]"
    explained = BF16.explain(text, A=A, U=U, V=V)
    assert cycles(explained) < 25_000
    assert explained.plans[0].result.compressed
    (i, j, k), expected = A.coords, np.zeros((1605, 8, 8))
    np.add.at(expected, i, A.data[:, None, None] * U[j][:, :, None] * V[k][:, None, :])
    np.testing.assert_array_equal(BF16.compute(text, A=A, U=U, V=V), expected)


@pytest.mark.parametrize("semiring", ["min_plus", "max_times", "or_and", "plus_first"])
def test_semirings(semiring):
    """All of them distribute; where ``*`` is a sum, both factors may be parts."""
    rng = np.random.default_rng(4)
    A, B, C, D = (sparse(rng, (25, 25), 0.15) for _ in "ABCD")
    text = "Y[i,m] = A[i,j] * B[j,k] * C[k,l] * D[l,m]"
    operands = {"A": A, "B": B, "C": C, "D": D}
    got = INT8.compute(text, semiring=semiring, **operands)
    several = len(INT8.report._kernels)
    one_by_one = INT8.compute(text, semiring=semiring, order="ijklm", **operands)
    np.testing.assert_array_equal(dense(got), dense(one_by_one))
    np.testing.assert_array_equal(got.tocoo().coords, one_by_one.tocoo().coords)
    assert several > 1


def test_a_maximum_of_negative_products_is_not_regrouped():
    rng = np.random.default_rng(5)
    A, B, x = sparse(rng, (40, 40), 0.2), sparse(rng, (40, 40), 0.2), np.full(40, -1.0)
    got = BF16.compute("y[i] = A[i,j] * B[j,k] * x[k]", A=A, B=B, x=x, semiring="max_times")
    assert len(BF16.report._kernels) == 1
    terms = A.toarray()[:, :, None] * B.toarray()[None] * x
    expected = np.where(terms == 0, -np.inf, terms).max((1, 2))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("text", "negative"),
    [
        ("y[i] = A[i,j] * B[i,k] * C[i,l] * D[i,m]", "A"),
        ("y[i] = A[i,j] * (B[j,k] * x[k])", "A"),
        ("Y[i,m] = A[i,j] * B[j,k] * C[k,l] * D[l,m]", "[A-D]"),
        ("y[i] = (a[i] + b[i]) * (c[i] + d[i]) * (e[i] + f[i])", "[a-f]"),
    ],
)
def test_a_maximum_is_not_multiplied_by_negative_values(text, negative):
    sizes = dict(zip("ijklm", (3, 4, 5, 2, 3), strict=True))
    rng = np.random.default_rng(9)
    operands = {
        a.name: rng.integers(0, 3, [sizes[i] for i in a.indices]) for a in parse(text).accesses
    }
    INT8.compute(text, semiring="max_times", **operands)
    lower = {name: array - 1 for name, array in operands.items()}
    with pytest.raises(ValueError, match=rf"\b{negative} has the value -1: expected 0 or more in "):
        INT8.compute(text, semiring="max_times", **lower)


def test_a_product_without_a_maximum_may_be_negative():
    rng = np.random.default_rng(10)
    operands = {name: rng.integers(-2, 3, 4) for name in "abcde"}
    got = INT8.compute("y[i] = a[i] * b[i] * c[i] * d[i] * e[i]", semiring="max_times", **operands)
    np.testing.assert_array_equal(got, np.prod(list(operands.values()), axis=0))


def test_an_absent_entry_of_a_part_meets_no_infinity():
    rng = np.random.default_rng(6)
    dense_rows = np.vstack([np.ones((29, 30)), np.zeros((1, 30))])
    A, D, E = sp.csr_array(dense_rows), whole(rng, 30, 4), np.full((4, 30), np.inf)
    D[:] = 1.0
    got = BF16.compute(ADAPTER, A=A, D=D, E=E)
    assert len(BF16.report._kernels) == 2
    assert np.all(got[:29] == np.inf) and np.all(got[29] == 0)


def test_the_pattern_of_a_compressed_result_does_not_depend_on_the_kernels():
    A = sp.csr_array(np.diag([1.0, 0.0, 2.0, 3.0]))
    A.eliminate_zeros()
    B, C = sp.csr_array(np.ones((4, 4))), sp.csr_array(np.ones((4, 4)))
    wanted = INT8.compute("Y[i,l] = (A[i,j] * B[j,k] * C[k,l])", A=A, B=B, C=C)
    for text in ("(A[i,j] * B[j,k]) * C[k,l]", "A[i,j] * (B[j,k] * C[k,l])"):
        got = INT8.compute(f"Y[i,l] = {text}", A=A, B=B, C=C)
        assert got.nnz == wanted.nnz == 12
    got = INT8.compute("Y[i,j] = B[i,j] * A[i,k] * d[k,j]", A=A, B=B, d=np.ones((4, 4)))
    assert got.nnz == 12


def test_epilogues_masks_views_numbers_and_repeated_operands():
    rng = np.random.default_rng(7)
    A, D, E = sparse(rng, (40, 40), 0.1), whole(rng, 40, 3), whole(rng, 3, 40)
    a = A.toarray()
    epilogue = Epilogue(relu=True, bias=1)
    got = INT8.compute(ADAPTER, A=A, D=D, E=E, epilogue=epilogue)
    np.testing.assert_array_equal(got, np.maximum(a @ D @ E + 1, 0))
    assert len(INT8.report._kernels) == 2
    got = INT8.compute(ADAPTER, A=A, D=D, E=E, mask=A)
    np.testing.assert_array_equal(dense(got), (a @ D @ E) * (a != 0))
    got = INT8.compute("y[i] = s * A[i,j] * A[j,k] * t * A[k,l] * x[l]", s=2, t=3, A=A, x=D[:, 0])
    np.testing.assert_array_equal(got, 6 * (a @ (a @ (a @ D[:, 0]))))
    got = INT8.compute("y[i] = D[i+j,k] * E[k,j] * s[j]", D=D, E=E[:, :5], s=D[:5, 0])
    windows = np.lib.stride_tricks.sliding_window_view(D, 5, axis=0)
    np.testing.assert_array_equal(got, np.einsum("ikj,kj,j->i", windows, E[:, :5], D[:5, 0]))
    got = INT8.compute(ADAPTER, A=A, D=D, E=E, out="dense,compressed")
    np.testing.assert_array_equal(dense(got), a @ D @ E)
    wide = Tensor.from_dense(D, dtype="int8", wide=True)
    chain = "Y[i,l] = A[i,j] * B[j,m] * D[m,k] * E[k,l]"
    got = INT8.compute(chain, A=A, B=A, D=wide, E=E)
    np.testing.assert_array_equal(got.to_dense(), a @ a @ D @ E)


@pytest.mark.parametrize("factors", [4, 9, 12])
def test_products_of_sums_take_kernels_in_proportion_to_their_factors(factors):
    rng = np.random.default_rng(8)
    names = [f"{letter}{n}" for n in range(factors) for letter in "ab"]
    operands = {name: rng.integers(0, 2, 20).astype(float) for name in names}
    text = " * ".join(f"(a{n}[i] + b{n}[i])" for n in range(factors))
    got = BF16.compute(f"y[i] = {text}", **operands)
    sums = [operands[f"a{n}"] + operands[f"b{n}"] for n in range(factors)]
    np.testing.assert_array_equal(got, np.prod(sums, axis=0))
    assert len(BF16.report._kernels) <= 3 * factors


def test_twelve_factors():
    rng = np.random.default_rng(9)
    sizes = rng.integers(2, 9, 13)
    operands = {f"A{n}": whole(rng, sizes[n], sizes[n + 1]) for n in range(12)}
    letters = "abcdefghijklm"
    text = " * ".join(f"A{n}[{letters[n]},{letters[n + 1]}]" for n in range(12))
    got = BF16.compute(f"Y[a,m] = {text}", **operands)
    expected = np.linalg.multi_dot(list(operands.values()))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("seed", [2, 6, 21])
def test_the_pick_among_all_ways(seed):
    """By the estimates with the real intermediates; `make bench BENCH=contractions` runs more."""
    product = draw_product(np.random.default_rng([0, seed]))
    assert product is not None
    got = run_product(BF16, product)
    assert got.right and got.over <= WITHIN
    assert len(got.orders) >= 4


def test_what_the_host_converts_counts():
    """In two kernels it would store the intermediate in another order between them."""
    chip = Chip("single", backend="model", memory=Memory(latency=100))
    *_, drawn = draw(chip, 35, 0)
    assert statements(chip.explain(drawn.statement, **drawn.operands)) == [drawn.statement]


def test_ways():
    product = Product("y", ("a", "b", "c"), {})
    ways = ["(a * b * c)", "((a * b) * c)", "((a * c) * b)", "((b * c) * a)"]
    assert sorted(product.ways(3)) == sorted(f"y = {way}" for way in ways)
    assert len(Product("y", ("a", "b", "c", "d"), {}).ways(3)) == 22


def test_a_result_that_is_larger_than_the_memory():
    a, b = np.ones(1 << 17), np.ones(1 << 17)
    C = sp.eye_array(1 << 17)
    with pytest.raises(
        ValueError, match=r"part1\[i,j\] = .* of shape \(131072, 131072\) .* 64\.0 GB"
    ):
        BF16.compute("y[i] = (a[i] * b[j]) * C[i,j]", a=a, b=b, C=C)
    with pytest.raises(ValueError, match=r"Y\[i,j\] = .* 64\.0 GB"):
        BF16.compute("Y[i,j] = a[i] * b[j] * c[i]", a=a, b=b, c=a)
    with pytest.raises(ValueError, match=r"Y\[i,j\] = a\[i\] \* b\[j\].* 64\.0 GB"):
        BF16.compute("Y[i,j] = a[i] * b[j]", a=a, b=b)
    A, U = sp.random_array((2000, 400, 400), density=1e-3, rng=3), np.ones((400, 2000))
    with pytest.raises(
        ValueError, match=r"Y\[i,r,s\] = \(A\[i,j,k\] \* U\[j,r\]\) \* V\[k,s\]: .* 29\.8 GB"
    ):
        BF16.compute("Y[i,r,s] = A[i,j,k] * U[j,r] * V[k,s]", A=A, U=U, V=U)


def test_a_nearly_full_memory_refuses_and_does_not_choose_other_kernels(tmp_path, monkeypatch):
    """Other kernels have other last bits: a result must not depend on what else runs."""
    rng = np.random.default_rng(12)
    operands = {"A": sparse(rng, (500, 500), 0.03), "D": whole(rng, 500, 8)}
    operands["E"] = whole(rng, 8, 500)
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr("loopnest.memory.MEMINFO", meminfo)
    statement = "y[i] = A[i,j] * D[j,k] * E[k,i]"
    meminfo.write_text("MemTotal: 33554432 kB\nMemAvailable: 33554432 kB\n")
    kernels = statements(BF16.explain(statement, **operands))
    assert kernels[0] == "part1[i,k] = A[i,j] * D[j,k]"
    meminfo.write_text("MemTotal: 33554432 kB\nMemAvailable: 64 kB\n")
    assert statements(BF16.explain(statement, **operands)) == kernels
    meminfo.write_text("MemTotal: 33554432 kB\nMemAvailable: 32 kB\n")
    with pytest.raises(ValueError, match=r"part1.* \(500, 8\) takes about 16000 bytes: .* 8192 b"):
        BF16.compute(statement, **operands)
    meminfo.write_text("MemTotal: 32 kB\n")
    assert statements(BF16.explain(statement, **operands)) == [statement]
