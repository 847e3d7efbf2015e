"""Tensors of other libraries as operands."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Tensor
from loopnest.formats.sources import as_array
from loopnest.graphs import bfs

CHIP = Chip(dtype="bf16", backend="model")
A = np.arange(20.0).reshape(4, 5) * (np.arange(20).reshape(4, 5) % 3 == 0)
X = np.arange(5.0)


def product(a, x=X):
    return CHIP.compute("y[i] = A[i,j] * x[j]", A=a, x=x)


@pytest.mark.parametrize("kind", ["COO", "GCXS", "DOK"])
def test_pydata_sparse(kind):
    sparse = pytest.importorskip("sparse")
    a = getattr(sparse, kind).from_numpy(A)
    np.testing.assert_array_equal(product(a), A @ X)
    filled = sparse.COO.from_numpy(A + 1, fill_value=1)
    with pytest.raises(ValueError, match=r"A: fill value 1.0: expected 0"):
        product(filled)
    cube = np.arange(24.0).reshape(2, 3, 4) * (np.arange(24).reshape(2, 3, 4) % 5 == 0)
    got = CHIP.compute("y[i,j] = A[i,j,k] * x[k]", A=sparse.COO.from_numpy(cube), x=X[:4])
    np.testing.assert_array_equal(got.toarray(), cube @ X[:4])
    large = sparse.COO(np.array([[1], [2]]), np.ones(1), shape=(1 << 20, 1 << 20))
    assert CHIP.compute("y[i] = A[i,j] * x[j]", A=large, x=np.ones(1 << 20)).sum() == 1


def test_coo_of_any_order():
    cube = np.zeros((2, 3, 4, 2))
    cube[1, 2, 3, 0] = cube[0, 0, 1, 1] = 2
    got = CHIP.compute("y[i,j] = A[i,j,k,l] * x[k]", A=sp.coo_array(cube), x=X[:4])
    np.testing.assert_array_equal(got.toarray(), np.einsum("ijkl,k->ij", cube, X[:4]))


def broken(name, **changes):
    """Return a matrix of a format, one of whose arrays has one element changed."""
    matrix = sp.random_array((40, 40), density=0.2, rng=1).asformat(name)
    for array, (at, value) in changes.items():
        getattr(matrix, array)[at] = value
    return matrix


@pytest.mark.parametrize("name", ["csr", "csc", "bsr"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": (3, 100_000_000)}, "must be < 40"),
        ({"indices": (3, -5)}, "must be >= 0"),
        ({"indptr": (2, 100_000_000)}, "non-decreasing sequence"),
        ({"indptr": (-1, 100_000_000)}, "Last value of index pointer"),
        ({"indptr": (0, 1)}, "index pointer should start with 0"),
    ],
)
def test_contradictions_of_compressed_formats(name, changes, message):
    """SciPy itself would read and write outside of its arrays."""
    matrix = broken(name, **changes)
    with pytest.raises(ValueError, match=f"^A: .*{message}"):
        product(matrix, np.ones(40))
    with pytest.raises(ValueError, match=f"^mask: .*{message}"):
        CHIP.matmul(np.ones((40, 40)), np.ones((40, 40)), mask=matrix)
    with pytest.raises(ValueError, match=f"^graph: .*{message}"):
        bfs(CHIP, matrix, 0)
    with pytest.raises(ValueError, match=message):
        Tensor.from_scipy(matrix)


def coo(*coords):
    matrix = sp.coo_array(np.eye(3))
    matrix.coords = tuple(np.array(c) for c in coords)
    return matrix


def lil(row, data):
    matrix = sp.lil_array((3, 3))
    matrix.rows[0], matrix.data[0] = row, data
    return matrix


def empty_csr():
    matrix = sp.csr_array((3, 3))
    matrix.indptr = np.array([0, 1_000_000, 0, 0])
    return matrix


def dia():
    matrix = sp.dia_array(np.eye(3))
    matrix.offsets = np.array([0, 1])
    return matrix


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        (coo([0, 1, 7], [0, 1, 2]), ValueError, "coordinate 7 of entry 2 in mode 0: expected 0 to"),
        (coo([0, 1, 2], [0, -1, 2]), ValueError, "coordinate -1 of entry 1 in mode 1"),
        (coo([0, 1], [0, 1]), ValueError, r"lengths \[2, 2\]: expected 3"),
        (coo([0.0, 1, 2], [0, 1, 2]), TypeError, "mode 0 of type float64: expected integers"),
        (lil([7], [1.0]), ValueError, "index 7 exceeds"),
        (lil([0], [1.0, 2.0]), ValueError, "rows and data of different lengths"),
        (empty_csr(), ValueError, "non-decreasing sequence"),
        (dia(), ValueError, r"offsets of shape \(2,\): expected \(1,\)"),
    ],
)  # fmt: skip
def test_contradictions_of_other_formats(matrix, error, message):
    with pytest.raises(error, match=f"^A: .*{message}"):
        product(matrix, np.ones(3))
    with pytest.raises(error, match=message):
        Tensor.from_scipy(matrix)


def test_arrays_longer_than_their_entries():
    """SciPy takes them as they are, and so does its caller, whose arrays stay."""
    matrix = sp.csr_array(A)
    entries = matrix.nnz
    matrix.indices = np.append(matrix.indices, [1, 1]).astype(matrix.indices.dtype)
    matrix.data = np.append(matrix.data, [7, 7])
    np.testing.assert_array_equal(product(matrix), A @ X)
    assert Tensor.from_scipy(matrix).nnz == entries
    assert len(matrix.indices) == len(matrix.data) == entries + 2


def test_good_arrays_stay_the_same_objects():
    """So one that is used twice is packed once."""
    matrix = sp.csr_array(A)
    for source in (matrix, matrix.tocsc(), matrix.tocoo(), matrix.tobsr(), A):
        assert as_array(source) is source


@pytest.mark.parametrize(
    ("operand", "error", "message"),
    [
        ([[1], [2, 3]], ValueError, "list whose parts differ in shape: expected an array"),
        (np.ma.array([1.0, 2], mask=[True, False]), ValueError, "masked array with masked values"),
        (None, TypeError, "is NoneType of object: expected a scipy.sparse array"),
        ("one", TypeError, "is str of <U3: expected a scipy.sparse array"),
        (np.array([1j, 0]), TypeError, r"values of type complex128, first .*1j.* at \(0\): "),
        (sp.coo_array([0, 1j]), TypeError, r"values of type complex128, first .*1j.* at \(1\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("semiring", ["plus_times", "or_and", "plus_pair"])
def test_what_is_no_operand(operand, error, message, semiring):
    with pytest.raises(error, match=f"^x:? {message}"):
        CHIP.compute("y[i] = x[i] * z[i]", x=operand, z=np.ones(2), semiring=semiring)


@pytest.mark.parametrize("mask", [[[1], [2, 3]], np.ma.array([1.0, 2], mask=[True, False])])
def test_what_is_no_mask(mask):
    with pytest.raises(ValueError, match=r"^mask: "):
        CHIP.compute("y[i] = x[i]", x=np.ones(2), mask=mask)
    with pytest.raises(ValueError, match=r"^m: "):
        CHIP.compute("y[i] = x[i] where m[i]", x=np.ones(2), m=mask)
