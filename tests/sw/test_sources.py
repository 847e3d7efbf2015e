"""Tensors of other libraries as operands."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip

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


def test_torch():
    torch = pytest.importorskip("torch")
    a = torch.tensor(A)
    for operand in (a, a.to_sparse(), a.to_sparse_csr(), a.to(torch.bfloat16).to_sparse()):
        np.testing.assert_array_equal(product(operand, torch.tensor(X)), A @ X)


def test_coo_of_any_order():
    cube = np.zeros((2, 3, 4, 2))
    cube[1, 2, 3, 0] = cube[0, 0, 1, 1] = 2
    got = CHIP.compute("y[i,j] = A[i,j,k,l] * x[k]", A=sp.coo_array(cube), x=X[:4])
    np.testing.assert_array_equal(got.toarray(), np.einsum("ijkl,k->ij", cube, X[:4]))
