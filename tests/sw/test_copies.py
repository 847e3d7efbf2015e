"""The number of copies of a key that the runtime selects."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip
from loopnest.kernel.lower import lower as plain_lower


def copies(
    monkeypatch: pytest.MonkeyPatch, dtype: str, order: str = "ikj", **operands: sp.csr_array
) -> int:
    """Return the setting for a product of matrices, by rows or in another order."""
    found = []

    def watched(*args, **options):
        kernel = plain_lower(*args, **options)
        found.append(kernel.fields["copies"])
        return kernel

    monkeypatch.setattr("loopnest.program.execute.lower", watched)
    chip = Chip(dtype=dtype, backend="model")
    got = chip.compute("C[i,j] = A[i,k] * B[k,j]", order=order, **operands)
    assert (got != operands["A"] @ operands["B"]).nnz == 0
    return found[-1]


def test_short_rows_that_come_back_at_once(monkeypatch):
    """A times its transpose: every row of the second factor adds to the diagonal."""
    rng = np.random.default_rng(1)
    a = sp.random_array((60, 600), density=0.06, format="csr", rng=rng)
    a.data[:] = rng.integers(1, 9, a.nnz)
    assert copies(monkeypatch, "bf16", A=a, B=sp.csr_array(a.T)) == 2
    # integer additions take one cycle
    assert copies(monkeypatch, "int8", A=a, B=sp.csr_array(a.T)) == 0


@pytest.mark.parametrize("rows", [30, 3000])
def test_rows_that_meet_seldom(monkeypatch, rows):
    rng = np.random.default_rng(1)
    shapes = ((40, rows), (rows, 900))
    a, b = (sp.random_array(s, density=0.02, format="csr", rng=rng) for s in shapes)
    a.data[:], b.data[:] = 2, 3
    assert copies(monkeypatch, "bf16", A=a, B=b) == 0


def test_long_rows(monkeypatch):
    a = sp.csr_array(np.ones((20, 30)))
    assert copies(monkeypatch, "bf16", A=a, B=sp.csr_array(np.ones((30, 100)))) == 0


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (3, 3)])
def test_nothing_to_do(monkeypatch, shape):
    a = sp.csr_array(shape)
    assert copies(monkeypatch, "bf16", A=a, B=sp.csr_array(shape[::-1])) == 0


@pytest.mark.parametrize(("rows", "most"), [(128, 2), (256, 1), (512, 0)])
def test_a_result_without_further_passes_is_held_with_all_its_copies(monkeypatch, rows, most):
    """Column after column adds to the same row for long, so a sample of them touches few rows.

    Each row of the result is a block: 512 slots hold two copies of 256 of them.
    """
    columns = 40_000
    row = np.arange(columns) * rows // columns
    a = sp.csr_array((np.ones(columns), (row, np.arange(columns))), shape=(rows, columns))
    b = sp.csr_array(np.ones((columns, 1)))
    assert copies(monkeypatch, "bf16", order="kij", A=a, B=b) == most
