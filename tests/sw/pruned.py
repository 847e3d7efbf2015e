"""Random statements of dense arrays with many zeros, and what they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest import Tensor

SHAPES = {
    "Y[i,j] = W[i,k] * X[k,j]": {"W": "ik", "X": "kj"},
    "y[i] = W[i,j] * x[j]": {"W": "ij", "x": "j"},
    "t = W[i,j] * V[i,j]": {"W": "ij", "V": "ij"},
    "Y[i,j] = W[i,j] * W[i,j]": {"W": "ij"},
    "Y[i,j] = W[i,j] + V[i,j]": {"W": "ij", "V": "ij"},
    "Y[i,j] = W[i,j] - V[i,j] * s": {"W": "ij", "V": "ij", "s": ""},
    "Y[i,j] = W[i,j] * (V[i,j] + U[i,j])": {"W": "ij", "V": "ij", "U": "ij"},
    "Y[i,j] = W[i,k] * X[k,j] + V[i,j]": {"W": "ik", "X": "kj", "V": "ij"},
    "Y[i,j] = T[i,k,l] * A[j,k] * B[j,l]": {"T": "ikl", "A": "jk", "B": "jl"},
    "Y[i,k] = x[i+j] * W[j,k]": {"x": "h", "W": "jk"},
}
"""Statements, and the indices that give the sizes of their operands; h is i + j."""

SPECIALS = (0.0, -0.0, np.inf, -np.inf, np.nan, 3e38)


def pruned(seed: int, dtype: str, *, special: bool = False) -> tuple[str, dict[str, NDArray[Any]]]:
    """Return a statement and its operands: small integers and many zeros, some below 0 on a bf16
    chip.

    ``special``: some are infinite, too large, or no number.
    """
    rng = np.random.default_rng(seed)
    statement = str(rng.choice(list(SHAPES)))
    sizes = {index: int(rng.integers(1, 40 if index in "jk" else 12)) for index in "ijkl"}
    sizes["h"] = sizes["i"] + sizes["j"] - 1
    operands = {}
    for name, indices in SHAPES[statement].items():
        shape = tuple(sizes[i] for i in indices)
        values = rng.integers(-4, 5, shape) * (rng.random(shape) < rng.choice([0.05, 0.2, 0.5, 1]))
        if dtype == "bf16":
            values = values * rng.choice([1.0, -1.0], shape) * 0.5  # some zeros are below 0
            if special and shape and rng.random() < 0.5:
                values[tuple(rng.integers(0, n, 3) for n in shape)] = rng.choice(SPECIALS, 3)
        operands[name] = values
    return statement, operands


def forced(operands: dict[str, NDArray[Any]], dtype: str) -> dict[str, Tensor]:
    """Return the operands as tensors that are dense, whatever they hold."""
    return {
        name: Tensor.from_dense(array, levels=["dense"] * array.ndim, dtype=dtype)
        for name, array in operands.items()
    }
