"""Tensor expressions by the model of a kernel, against SciPy. Small integers: sums are exact."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import make_config
from loopnest_hw.descriptor import LeafMode, Op, ResultMode
from loopnest_sim.model.kernel import KernelResult, run_kernel

from .tensors import HOLD, Cells, Kernel, Memory, read_compressed, read_dense
from .token_by_token import TokenByToken

FIBER, KEY = (ResultMode.FIBER, 1), (ResultMode.KEY, 1)
UNION_OF_2, UNION_OF_3 = 0b1110, 0b11111110


@pytest.fixture(params=["int8", "bf16"])
def memory(request: pytest.FixtureRequest) -> Memory:
    return Memory(make_config(dtype=request.param))


def sparse(rng: np.random.Generator, rows: int, columns: int, density: float) -> sp.csr_array:
    A = sp.random_array((rows, columns), density=density, rng=rng, format="csr")
    A.data = rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], A.nnz)
    return sp.csr_array(A)


def dense(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    return rng.integers(-3, 4, shape).astype(np.float64)


def pattern(A: Any) -> NDArray[np.bool_]:
    return (A != 0).toarray() if sp.issparse(A) else A != 0


def ones_like(A: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((np.ones(A.nnz), A.indices, A.indptr), A.shape)


def run(memory: Memory, d: dict[str, int]) -> KernelResult:
    result = run_kernel(memory.config, memory.image, d)
    assert result.image is memory.image
    return result


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_spmv(memory: Memory, rng: np.random.Generator) -> None:
    A, x = sparse(rng, 60, 90, 0.2), dense(rng, 90)
    a = memory.matrix(A)
    k = Kernel.of(memory, [a.values, memory.values(x)], LeafMode.DOT)
    k.loop(60, [1, HOLD], FIBER, ones=0)
    k.loop(90, [a.rows, 1], leaf=True)
    d = k.descriptor(fibers=60, size=1, drain_stop=1, compressed=False)
    result = run(memory, d)
    assert result.multiplies == A.nnz
    np.testing.assert_array_equal(read_dense(memory, d, (60,)), A @ x)


def test_spmm(memory: Memory, rng: np.random.Generator) -> None:
    A, B = sparse(rng, 30, 40, 0.2), dense(rng, 40, 25)
    a = memory.matrix(A)
    k = Kernel.of(memory, [a.values, memory.values(B)], LeafMode.AXPY)
    k.loop(30, [1, HOLD], (ResultMode.FIBER, 25), ones=0)
    k.loop(40, [a.rows, 25])
    k.loop(25, [HOLD, 1], KEY, ones=1, leaf=True)
    d = k.descriptor(fibers=30, size=25, drain_stop=2, compressed=False)
    result = run(memory, d)
    assert result.multiplies == A.nnz * 25
    np.testing.assert_array_equal(read_dense(memory, d, (30, 25)), A @ B)


def test_spgemm_by_rows(memory: Memory, rng: np.random.Generator) -> None:
    A, B = sparse(rng, 50, 60, 0.1), sparse(rng, 60, 70, 0.1)
    a, b = memory.matrix(A), memory.matrix(B)
    k = Kernel.of(memory, [a.values, b.values], LeafMode.AXPY)
    k.loop(50, [1, HOLD], FIBER, ones=0)
    k.loop(60, [a.rows, 1])
    k.loop(70, [HOLD, b.rows], KEY, leaf=True)
    d = k.descriptor(fibers=50, size=70, drain_stop=2, compressed=True)
    result = run(memory, d)
    assert result.multiplies == (ones_like(A) @ ones_like(B)).sum()
    C, has = read_compressed(memory, d, 50, 70)
    np.testing.assert_array_equal(C, (A @ B).toarray())
    np.testing.assert_array_equal(has, pattern(ones_like(A) @ ones_like(B)))


def test_spgemm_inner_product(memory: Memory, rng: np.random.Generator) -> None:
    A, B = sparse(rng, 30, 100, 0.1), sparse(rng, 100, 20, 0.1)
    a, b = memory.matrix(A), memory.matrix(sp.csr_array(B.T))
    k = Kernel.of(memory, [a.values, b.values], LeafMode.DOT)
    k.loop(30, [1, HOLD], FIBER, ones=0)
    k.loop(20, [HOLD, 1], KEY, ones=1)
    k.loop(100, [a.rows, b.rows], leaf=True)
    d = k.descriptor(fibers=30, size=20, drain_stop=2, compressed=True)
    run(memory, d)
    C, has = read_compressed(memory, d, 30, 20)
    np.testing.assert_array_equal(C, (A @ B).toarray())
    np.testing.assert_array_equal(has, pattern(ones_like(A) @ ones_like(B)))


@pytest.mark.parametrize("multipliers", [1, 2, 4, 8, 16])
def test_order_of_a_dot_fibers_additions(multipliers: int, rng: np.random.Generator) -> None:
    """Long fibers of random fp32 products: every other order of additions has other bits."""
    memory = Memory(make_config(dtype="bf16", multipliers=multipliers))
    A = sp.csr_array(sp.random_array((6, 700), density=0.3, rng=rng, format="csr"))
    A.data = rng.standard_normal(A.nnz)
    a, x = memory.matrix(A), memory.values(rng.standard_normal(700))
    k = Kernel.of(memory, [a.values, x], LeafMode.DOT)
    k.loop(6, [1, HOLD], FIBER, ones=0)
    k.loop(700, [a.rows, 1], leaf=True)
    d = k.descriptor(fibers=6, size=1, drain_stop=1, compressed=False)
    expected = TokenByToken(memory.config, memory.image, d).run().value[:, 0]
    run(memory, d)
    np.testing.assert_array_equal(read_dense(memory, d, (6,)).view(np.uint32), expected)


def test_sddmm(memory: Memory, rng: np.random.Generator) -> None:
    S, A, B = sparse(rng, 25, 35, 0.2), dense(rng, 25, 30), dense(rng, 35, 30)
    s = memory.matrix(S)
    k = Kernel.of(memory, [s.values, memory.values(A), memory.values(B)], LeafMode.DOT)
    k.loop(25, [1, 30, HOLD], FIBER, ones=0)
    k.loop(35, [s.rows, HOLD, 30], KEY)
    k.loop(30, [HOLD, 1, 1], ones=1, leaf=True)
    d = k.descriptor(fibers=25, size=35, drain_stop=2, compressed=True)
    result = run(memory, d)
    assert result.multiplies == S.nnz * 30
    C, has = read_compressed(memory, d, 25, 35)
    np.testing.assert_array_equal(C, S.toarray() * (A @ B.T))
    np.testing.assert_array_equal(has, pattern(S))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("op", [Op.MUL, Op.ADD])
def test_elementwise(memory: Memory, rng: np.random.Generator, op: Op, count: int) -> None:
    tensors = [sparse(rng, 20, 200, 0.3) for _ in range(count)]
    placed = [memory.matrix(A) for A in tensors]
    k = Kernel.of(memory, [a.values for a in placed], LeafMode.AXPY)
    table = None if op is Op.MUL else (UNION_OF_2, UNION_OF_3)[count - 2]
    follow: Cells = [1] * count
    k.loop(20, follow, FIBER, ones=0)
    k.loop(200, [a.rows for a in placed], KEY, table=table, leaf=True)
    k.fields |= {"op1": op, "op2": op, "accumulate": 0}
    d = k.descriptor(fibers=20, size=200, drain_stop=1, compressed=True)
    run(memory, d)
    C, has = read_compressed(memory, d, 20, 200)
    arrays = np.stack([A.toarray() for A in tensors])
    there = arrays != 0
    expected = arrays.prod(axis=0) if op is Op.MUL else arrays.sum(axis=0)
    np.testing.assert_array_equal(C, expected)
    np.testing.assert_array_equal(has, there.all(axis=0) if op is Op.MUL else there.any(axis=0))


def test_gemm(memory: Memory, rng: np.random.Generator) -> None:
    A, B = dense(rng, 20, 33), dense(rng, 33, 40)
    k = Kernel.of(memory, [memory.values(A), memory.values(B)], LeafMode.AXPY)
    k.loop(20, [33, HOLD], (ResultMode.FIBER, 40), ones=0)
    k.loop(33, [1, 40], ones=0)
    k.loop(40, [HOLD, 1], KEY, ones=1, leaf=True)
    d = k.descriptor(fibers=20, size=40, drain_stop=2, compressed=False)
    result = run(memory, d)
    assert result.multiplies == 20 * 33 * 40
    assert result.steps * memory.config.multipliers == result.multiplies
    np.testing.assert_array_equal(read_dense(memory, d, (20, 40)), A @ B)


def test_transposed_product_drains_at_the_end(memory: Memory, rng: np.random.Generator) -> None:
    """y[j] = A[i,j] * x[i]: the one result fiber spans the nest."""
    A, x = sparse(rng, 300, 80, 0.1), dense(rng, 300)
    a = memory.matrix(A)
    k = Kernel.of(memory, [a.values, memory.values(x)], LeafMode.AXPY)
    k.loop(300, [1, 1], ones=0)
    k.loop(80, [a.rows, HOLD], KEY, leaf=True)
    d = k.descriptor(fibers=1, size=80, drain_stop=2, compressed=False)
    assert run(memory, d).fibers == 1
    np.testing.assert_array_equal(read_dense(memory, d, (80,)), A.T @ x)


def test_full_result_visits_rows_without_work(memory: Memory, rng: np.random.Generator) -> None:
    A, x = sparse(rng, 40, 50, 0.02), dense(rng, 50)
    a = memory.matrix(A)
    k = Kernel.of(memory, [a.values, memory.values(x)], LeafMode.DOT)
    k.loop(40, [1, HOLD], FIBER, ones=0)
    k.loop(50, [a.rows, 1], leaf=True)
    d = k.descriptor(fibers=40, size=1, drain_stop=1, compressed=False, full=1)
    stale = np.full(40, 99, np.int32)
    memory.image.write(d["result.values"], stale)
    assert run(memory, d).empty_steps > 0
    np.testing.assert_array_equal(read_dense(memory, d, (40,)), A @ x)
