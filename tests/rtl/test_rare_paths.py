"""Paths that a large chip rarely takes occur on `shrunk`: its counters prove it."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Memory, Tensor
from loopnest.kernel.lower import Kernel
from tests.rtl.chips import Pair, altered, on

PRODUCT = "C[i,j] = A[i,k] * B[k,j]"


def spread(rng: np.random.Generator, rows: int, columns: int, count: int) -> sp.csr_array:
    """Return a matrix of small integers with entries at random places."""
    values = rng.integers(1, 5, count) * rng.choice([-1, 1], count)
    at = rng.integers(0, rows, count), rng.integers(0, columns, count)
    return sp.coo_array((values, at), (rows, columns)).tocsr()


@on("shrunk/int8", "shrunk/bf16")
@pytest.mark.parametrize("memory", [Memory(latency=4), Memory(latency=9, stall=0.3, reorder=True)])
def test_more_blocks_than_slots(pair: Pair, memory: Memory) -> None:
    """8 blocks of a row in 4 slots: blocks are evicted and follow in a second pass."""
    rng = np.random.default_rng(1)
    A, B = spread(rng, 6, 20, 60), spread(rng, 20, 128, 250)
    got = pair.run(PRODUCT, A=A, B=B, order="ikj", memory=memory)
    assert np.array_equal(got.toarray(), (A @ B).toarray())
    assert pair.counter("evictions") == pair.report.evictions > 0
    assert pair.counter("passes") == pair.report.passes > 0


@on("shrunk/int8", "shrunk/bf16")
def test_wide_results(pair: Pair) -> None:
    """Blocks at the ends of the 2^20 columns need no further passes, however far apart."""
    rng = np.random.default_rng(2)
    A = sp.csr_array(np.eye(5, 6, dtype=int))
    at = [0, 0, 1, 3, 4], [3, (1 << 20) - 1, 1 << 19, 1023, 512]
    few = sp.coo_array((rng.integers(1, 9, 5), at), (5, 1 << 20)).tocsr()
    got = pair.run(PRODUCT, A=A, B=sp.vstack([few, few[:1]]).tocsr(), order="ikj")
    assert np.array_equal(got.toarray(), few.toarray())
    assert pair.report.passes == 0 and pair.report.evictions == 0


@on("single/bf16")
def test_a_wide_result_fits_the_larger_preset(pair: Pair) -> None:
    rng = np.random.default_rng(1)
    A, B = spread(rng, 6, 20, 60), spread(rng, 20, 128, 250)
    got = pair.run(PRODUCT, A=A, B=B, order="ikj")
    assert np.array_equal(got.toarray(), (A @ B).toarray())
    assert (pair.report.passes, pair.report.evictions) == (0, 0)


def one_line_each(kernel: Kernel) -> dict[str, int]:
    rings = [path for path in kernel.fields if path.startswith("ring.") and "base" in path]
    return {path.replace("base", "last"): kernel.fields[path] for path in rings}


@on("shrunk/int8", "shrunk/bf16")
@pytest.mark.parametrize("latency", [1, 30])
def test_rings_of_one_line_are_full(pair: Pair, latency: int) -> None:
    """A read stream of `shrunk` runs one step ahead, which fits into the two lines of its ring.
    With one line, the lanes of a step whose values are in different lines wait for each other.
    """
    memory = Memory(latency=latency)
    rng = np.random.default_rng(3)
    A, x = spread(rng, 20, 300, 200), rng.integers(1, 9, 300)
    with altered(one_line_each):
        got = pair.run("y[i] = A[i,j] * x[j]", memory=memory, A=A, x=x)
    assert np.array_equal(got, A @ x)
    assert pair.counter("pool_full") > 0


@on("single/bf16")
def test_the_pool_is_full(pair: Pair) -> None:
    """Streams run ahead of a slow memory until their rings are full."""
    rng = np.random.default_rng(3)
    A, x = spread(rng, 50, 90, 1200), rng.integers(1, 9, 90)
    got = pair.run("y[i] = A[i,j] * x[j]", memory=Memory(latency=100), A=A, x=x)
    assert np.array_equal(got, A @ x)
    assert pair.counter("pool_full") > 0


@on("shrunk/int8", "shrunk/bf16")
@pytest.mark.parametrize("latency", [1, 40])
def test_a_replay_begins_within_a_dot_fiber(pair: Pair, latency: int) -> None:
    """The last dot fiber of a row looks up its slot, and so causes a second pass, long before all
    of its blocks have arrived. Its key belongs to the first pass, so no term may be lost.
    """
    rng = np.random.default_rng(1)
    A = rng.integers(1, 3, (3, 2))
    B = np.zeros((2, 110, 300), int)
    B[0, :, ::7] = rng.random((110, 43)) < 0.3
    B[1, 3] = 1
    compressed = Tensor.from_dense(B, levels="dense,compressed,compressed", dtype=pair.dtype)
    chip = pair.chip(Memory(latency=latency))
    expected = np.einsum("ik,kjl->ij", A, B)
    for any_chip in (chip, pair.model):
        got = any_chip.compute(
            "C[i,j] = A[i,k] * B[k,j,l]",
            **{"A": A, "B": compressed, "order": "ikjl", "out": "dense,compressed"},
        )
        assert np.array_equal(got.to_dense(), expected)
    assert chip.report.passes > 0


@on("shrunk/int8", "single/bf16")
def test_every_cycle_is_counted_once(pair: Pair) -> None:
    """No stage is in two states at once, and each was busy."""
    rng = np.random.default_rng(4)
    A, B = spread(rng, 30, 40, 200), spread(rng, 40, 50, 300)
    pair.run(PRODUCT, A=A, B=B, order="ikj")
    cycles = pair.report.cycles
    assert pair.report.pe_roof <= cycles
    for stage, states in pair.report.stalls.items():
        assert 0 < sum(states.values()) <= cycles, stage
        assert states["busy"] > 0, stage
