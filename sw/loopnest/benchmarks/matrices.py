"""Matrices in Matrix Market files, with small integers as values."""

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from ..formats.files import read_tensor

SUFFIX = ".mtx.gz"

SEED = 1

LARGEST = 8
"""Values are integers from -8 to 8, none zero: every product and sum of them is exact."""


def matrix_names(folder: Path) -> list[str]:
    """Return the names of the folder's matrices, in order.

    Raises
    ------
    ValueError
        If there are none.
    """
    names = sorted(file.name.removesuffix(SUFFIX) for file in folder.glob("*" + SUFFIX))
    if not names:
        raise ValueError(f"{folder}: expected a folder with *{SUFFIX} files")
    return names


def nonzeros(count: int | tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return random values, as float64."""
    return rng.integers(1, LARGEST + 1, count) * rng.choice([-1.0, 1.0], count)


def load_matrix(folder: Path, name: str) -> sp.csr_array:
    """Return a file's pattern with random values, the same at every call.

    Many files have values that no narrow format can represent (1e20, complex ones), so only their
    pattern is used.
    """
    matrix = sp.csr_array(abs(read_tensor(folder / (name + SUFFIX))))
    matrix.sum_duplicates()
    values = nonzeros(matrix.nnz, np.random.default_rng(SEED))
    return sp.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
