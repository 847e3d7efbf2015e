"""Whole kernels on the RTL, against the golden model bit for bit and against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest.nest.result
from loopnest import Memory
from loopnest.kernel.lower import Kernel
from loopnest_hw.descriptor import LeafMode
from tests.rtl.chips import SEVERAL, Bits, Pair, altered, on
from tests.rtl.kernels import KINDS, Kind, check, random_operands, random_sizes

TRIALS = 6

TIMINGS = (
    Memory(latency=1, fill=0xA5),
    Memory(latency=100, fill=0xA5),
    Memory(latency=20, bytes_per_cycle=6.5),
    Memory(latency=4, stall=0.4, reorder=True, seed=2),
    Memory(latency=30, stall=0.1, reorder=True, seed=3),
)


def run(pair: Pair, kind: Kind, seed: int, sizes: dict[str, int] | None = None) -> None:
    rng = np.random.default_rng(seed)
    sizes = random_sizes(kind, rng) if sizes is None else sizes
    operands = random_operands(kind, sizes, rng, pair.dtype)
    print(f"seed {seed}, sizes {sizes}")
    check(kind, operands, pair.dtype, pair.run(kind.statement, **operands, **kind.arguments()))


@on("shrunk/int8", SEVERAL, "single/bf16", "shrunk/bf16")
@pytest.mark.parametrize("name", KINDS)
def test_random_shapes(pair: Pair, name: str) -> None:
    kind = KINDS[name]
    for size in (0, 1):
        run(pair, kind, 0, dict.fromkeys("ijk", size))
    for seed in range(TRIALS):
        run(pair, kind, seed)


@on("single/bf16")
@pytest.mark.parametrize("name", KINDS)
def test_the_large_preset(pair: Pair, name: str) -> None:
    run(pair, KINDS[name], 100, {"i": 21, "j": 45, "k": 35})


@on("shrunk/int8", SEVERAL, "single/bf16")
@pytest.mark.parametrize("name", KINDS)
def test_timing_changes_no_bit(pair: Pair, name: str) -> None:
    kind = KINDS[name]
    rng = np.random.default_rng(7)
    operands = random_operands(kind, {"i": 9, "j": 37, "k": 18}, rng, pair.dtype)
    arguments = operands | kind.arguments()
    first = pair.run(kind.statement, **arguments)
    check(kind, operands, pair.dtype, first)
    cycles = {pair.report.cycles}
    for memory in TIMINGS:
        assert Bits(pair.run(kind.statement, memory=memory, **arguments)) == Bits(first)
        cycles.add(pair.report.cycles)
    assert len(cycles) > 3, "the timing did not change"


@on("shrunk/int8", SEVERAL, "single/bf16")
def test_a_million_columns(pair: Pair) -> None:
    n = 1 << 20
    rng = np.random.default_rng(1)
    at = rng.integers(0, 6, 60), np.sort(rng.integers(0, n, 60))
    at[1][:3], at[1][-1] = (0, 1, 15), n - 1
    B = sp.coo_array((rng.integers(1, 9, 60), at), (6, n)).tocsr()
    A = sp.csr_array(rng.integers(-9, 9, (3, 6)))
    got = pair.run("C[i,j] = A[i,k] * B[k,j]", A=A, B=B, order="ikj")
    assert got.shape == (3, n) and (got != A @ B).nnz == 0
    x = np.zeros(n, np.int64)
    x[B.indices[::2]] = 3
    assert np.array_equal(pair.run("y[i] = A[i,j] * x[j]", A=B, x=x), B @ x)
    total = pair.run("C[i,j] = A[i,j] + B[i,j]", A=B, B=B[::-1])
    assert (total != B + B[::-1]).nnz == 0


@on("single/bf16")
def test_scattered_keys(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two indices of the result in one fiber, and too many coordinates to pad the inner one."""
    monkeypatch.setattr(loopnest.nest.result, "KEYS", 25 * 10 + 1)
    rng = np.random.default_rng(2)
    A = sp.csr_array(rng.integers(1, 9, (25, 8)) * (rng.random((25, 8)) < 0.4))
    B = sp.csr_array(rng.integers(-9, 9, (8, 10)) * (rng.random((8, 10)) < 0.6))
    modes = []

    def note(kernel: Kernel) -> dict[str, int]:
        modes.append(kernel.fields["leaf_mode"])
        return {}

    with altered(note):
        got = pair.run("C[i,j] = A[i,k] * B[k,j]", A=A, B=B, order="kij")
    assert modes == [LeafMode.SCATTER.value] * 2
    assert (got != A @ B).nnz == 0


@on("single/bf16", "shrunk/bf16")
def test_special_values(pair: Pair) -> None:
    """NaN, infinities, zeros and the extremes as in IEEE 754, but that subnormals are 0."""
    numbers = [
        np.nan,
        np.inf,
        -np.inf,
        -0.0,
        1.0,
        -3.5,
        2.0**127,
        2.0**-126,
        2.0**-130,
        -(2.0**-70),
    ]
    a, b = np.meshgrid(np.array(numbers), np.array(numbers))
    rows, columns = (index.reshape(-1) for index in np.indices(a.shape))
    A, B = (sp.coo_array((x.reshape(-1), (rows, columns)), a.shape).tocsr() for x in (a, b))
    got = pair.run("C[i,j] = A[i,j] * B[i,j]", A=A, B=B)
    assert got.nnz == a.size

    def flushed(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) < 2.0**-126, np.copysign(0, x), x)

    with np.errstate(over="ignore", invalid="ignore"):
        expected = flushed(flushed(a) * flushed(b)).astype(np.float32)
    np.testing.assert_array_equal(got.toarray(), expected)
    with np.errstate(over="ignore", invalid="ignore"):
        total = flushed(flushed(a) + flushed(b)).astype(np.float32)
    got = pair.run("C[i,j] = A[i,j] + B[i,j]", A=A, B=B)
    np.testing.assert_array_equal(got.toarray(), total)
