"""The kernels whose energy is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

MATMUL = "C[i,j] = A[i,k] * B[k,j]"
SDDMM = "C[i,j] = S[i,j] * A[i,k] * B[j,k]"

IDLE = "idle"
"""A chip after its reset that runs nothing."""

Operands = Mapping[str, Any]


@dataclass(frozen=True)
class Workload:
    """A kernel: its statement, and a function that draws its operands.

    ``fitted``: the energies of events are fitted to it (`fit`); the others check them.
    """

    name: str
    statement: str
    operands: Callable[[np.random.Generator], Operands]
    fitted: bool = True


def _values(size: int, generator: np.random.Generator) -> np.ndarray:
    """Return values of up to seven bits and a sign, which both number formats represent."""
    return generator.integers(1, 100, size) * generator.choice([-1.0, 1.0], size)


def _sparse(shape: tuple[int, int], density: float, generator: np.random.Generator) -> sp.csr_array:
    return sp.random_array(
        shape,
        density=density,
        format="csr",
        rng=generator,
        data_sampler=lambda size: _values(size, generator),
    )


def _dense(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return _values(int(np.prod(shape)), generator).reshape(shape)


def _vector(size: int, count: int, generator: np.random.Generator) -> sp.coo_array:
    places = np.sort(generator.choice(size, count, replace=False))
    return sp.coo_array((_values(count, generator), (places,)), shape=(size,))


def _band(size: int, generator: np.random.Generator) -> sp.csr_array:
    """Return a matrix with nine diagonals."""
    offsets = range(-4, 5)
    diagonals = [_values(size - abs(offset), generator) for offset in offsets]
    return sp.csr_array(sp.diags_array(diagonals, offsets=offsets))


WORKLOADS = (
    Workload("dense GEMM", MATMUL, lambda g: {"A": _dense((48, 48), g), "B": _dense((48, 48), g)}),
    Workload(
        "pruned layer",
        MATMUL,
        lambda g: {"A": _sparse((128, 128), 0.1, g), "B": _dense((128, 32), g)},
    ),
    Workload(
        "SpMV",
        "y[i] = A[i,j] * x[j]",
        lambda g: {"A": _sparse((512, 512), 0.04, g), "x": _dense((512,), g)},
    ),
    Workload(
        "SpGEMM",
        MATMUL,
        lambda g: {"A": _sparse((256, 256), 0.03, g), "B": _sparse((256, 256), 0.03, g)},
    ),
    Workload(
        "SDDMM",
        SDDMM,
        lambda g: {
            "S": _sparse((64, 64), 0.1, g),
            "A": _dense((64, 32), g),
            "B": _dense((64, 32), g),
        },
    ),
    Workload(
        "skipping",
        "s = x[i] * y[i]",
        lambda g: {"x": _vector(1 << 20, 40_000, g), "y": _vector(1 << 20, 40, g)},
    ),
    Workload(
        "union",
        "C[i,j] = A[i,j] + B[i,j]",
        lambda g: {"A": _sparse((256, 256), 0.05, g), "B": _sparse((256, 256), 0.05, g)},
    ),
    Workload(
        "layer of 64 inputs",
        MATMUL,
        lambda g: {"A": _sparse((96, 256), 0.1, g), "B": _dense((256, 64), g)},
        fitted=False,
    ),
    Workload(
        "SpMV of a band",
        "y[i] = A[i,j] * x[j]",
        lambda g: {
            "A": _band(700, g),
            "x": _dense((700,), g),
        },
        fitted=False,
    ),
    Workload(
        "SpGEMM, sparser",
        MATMUL,
        lambda g: {"A": _sparse((600, 600), 0.008, g), "B": _sparse((600, 600), 0.008, g)},
        fitted=False,
    ),
    Workload(
        "intersection",
        "s = x[i] * y[i]",
        lambda g: {"x": _vector(1 << 17, 20_000, g), "y": _vector(1 << 17, 20_000, g)},
        fitted=False,
    ),
    Workload(
        "MTTKRP of a matrix pair",
        "D[i,j] = B[i,k] * E[k,j] * F[i,j]",
        lambda g: {
            "B": _sparse((96, 96), 0.08, g),
            "E": _dense((96, 16), g),
            "F": _dense((96, 16), g),
        },
        fitted=False,
    ),
    Workload(
        "elementwise product",
        "C[i,j] = A[i,j] * B[i,j]",
        lambda g: {"A": _sparse((256, 256), 0.2, g), "B": _sparse((256, 256), 0.2, g)},
        fitted=False,
    ),
)


def find(name: str) -> Workload:
    """Return a workload by its name.

    Raises
    ------
    ValueError
        If there is none.
    """
    for workload in WORKLOADS:
        if workload.name == name:
            return workload
    names = ", ".join(repr(workload.name) for workload in WORKLOADS)
    raise ValueError(f"workload {name!r}: expected {IDLE!r} or one of {names}")
