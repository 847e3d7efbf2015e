"""The pruned layer by PyTorch: as a dense matrix, and as a sparse one."""

import warnings

import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from .candidate import Candidate, Makers, called


def set_threads(count: int) -> None:
    """Set PyTorch's threads."""
    torch.set_num_threads(count)


def _layer(W: sp.csr_array, X: NDArray) -> list[Candidate]:
    dense, inputs = torch.from_numpy(W.toarray()), torch.from_numpy(X)
    with warnings.catch_warnings(action="ignore"):  # sparse matrices are in beta state
        sparse = torch.sparse_csr_tensor(W.indptr, W.indices, W.data, W.shape)
    found = torch.empty(W.shape[0], X.shape[1])

    def by_dense() -> NDArray:
        torch.mm(dense, inputs, out=found)
        return found.numpy()

    def by_sparse() -> NDArray:
        return torch.mm(sparse, inputs).numpy()

    return [
        called("PyTorch, dense", by_dense, parallel=True),
        called("PyTorch, sparse", by_sparse, parallel=True),
    ]


MAKERS: Makers = {"layer": _layer}
