"""Random statements for the cost model: shapes, formats, and patterns from full to hyper-sparse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import scipy.sparse as sp

from loopnest import Chip, Tensor

LARGEST = 4
"""Values are integers from 1 to 4: every sum is exact."""

SHORT = 6
"""Size of an index written in capitals, at most: a rank."""

STATEMENTS = (
    "C[i,j] = A[i,k] * B[k,j]",
    "C[i,j] = A[i,k] * B[j,k]",
    "y[i] = A[i,j] * x[j]",
    "y[j] = A[i,j] * x[i]",
    "y[i] = A[i,j] * d[j]",
    "C[i,R] = A[i,j] * d[j,R]",
    "C[i,j] = A[i,j] + B[i,j]",
    "C[i,j] = A[i,j] * B[i,j]",
    "C[i,j] = A[i,j] * d[i]",
    "C[i,j] = A[i,j] + B[i,j] + D[i,j]",
    "C[i,j] = A[i,j] * (B[i,j] + D[i,j])",
    "C[i,j] = A[i,j] * e[i,R] * f[R,j]",
    "C[i,j] = A[i,k] * B[k,j] * D[i,j]",
    "y[i] = A[i,k] * B[k,j] * x[j]",
    "C[i,j] = A[i,k] * B[k,j] where M[i,j]",
    "C[i,j] = A[i,j] * B[i,j] where not M[i,j]",
    "y[j] = A[i,j] * x[i] where not m[j]",
    "y[i] = T[i,j,k] * x[k] * z[j]",
    "C[i,R] = T[i,j,k] * d[j,R] * e[k,R]",
    "C[i,j] = T[i,j,k] * x[k]",
    "U[i,j,k] = T[i,j,k] + S[i,j,k]",
    "s = T[i,j,k] * S[i,j,k]",
)
"""Capital operands of two or three indices, and x, z and m, are sparse; the others are dense."""

DENSITIES = ("hyper-sparse", "sparse", "filled")
"""Of a statement's sparse operands: a nonzero in ten to two rows; one to eight a row; 5 to 40 %."""


@dataclass(frozen=True)
class Drawn:
    """A statement with its operands; ``density`` is one of `DENSITIES`."""

    number: int
    statement: str
    density: str
    operands: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The statement with its number, density and the shape of its first operand."""
        shape = next(iter(self.operands.values())).shape
        return f"{self.number}: {self.statement}, {self.density}, {'x'.join(map(str, shape))}"


def draw(chip: Chip, count: int, seed: int) -> Iterator[Drawn]:
    """Yield statements; number n is the same whatever the count."""
    for n in range(count):
        rng = np.random.default_rng((seed, n))
        statement = STATEMENTS[rng.integers(len(STATEMENTS))]
        density = DENSITIES[n % len(DENSITIES)]
        yield Drawn(n, statement, density, _operands(chip, statement, density, rng))


def _operands(chip: Chip, statement: str, density: str, rng: np.random.Generator) -> dict[str, Any]:
    accesses = _accesses(statement)
    order = max(map(len, accesses.values()))
    low, high = {"hyper-sparse": (1000, 16000), "sparse": (100, 1500), "filled": (12, 100)}[density]
    if order > 2:
        low, high = low // 4, high // 8
    indices = dict.fromkeys(i for own in accesses.values() for i in own)
    sizes = {}
    for index in indices:
        if index.isupper():
            sizes[index] = int(rng.integers(2, SHORT + 1))
        else:
            sizes[index] = int(np.exp(rng.uniform(*np.log([low, high]))))
    levels = rng.choice(["free", "compressed", "dense outside"])
    found = {}
    for name, own in accesses.items():
        shape = tuple(sizes[i] for i in own)
        if not (name.isupper() or name in "xzm"):
            found[name] = rng.integers(1, LARGEST + 1, shape).astype(np.float64)
            continue
        share = {
            "hyper-sparse": rng.uniform(0.1, 0.5) / prod(shape[1:]),
            "sparse": rng.uniform(1, 8) / prod(shape[1:]),
            "filled": rng.uniform(0.05, 0.4),
        }[density]
        if len(shape) == 1:
            share = {"hyper-sparse": 0.05, "sparse": 0.3, "filled": 0.5}[density]
        found[name] = _sparse(chip, shape, share, levels, rng)
    return found


def _accesses(statement: str) -> dict[str, tuple[str, ...]]:
    """Return the operands' indices by name."""
    _, right = statement.split(" = ")
    found = {}
    for text in right.replace("(", " ").replace(")", " ").split():
        name, bracket, own = text.partition("[")
        if bracket:
            found[name] = tuple(own.removesuffix("]").split(","))
    return found


def _sparse(
    chip: Chip, shape: tuple[int, ...], share: float, levels: str, rng: np.random.Generator
) -> Any:
    """Return a sparse array, or a `Tensor` with levels of its own."""
    count = min(max(2, int(share * prod(shape))), prod(shape))
    at = np.unravel_index(rng.choice(prod(shape), count, replace=False), shape)
    values = rng.integers(1, LARGEST + 1, count).astype(np.float64)
    array = sp.coo_array((values, at), shape)
    if levels == "free":
        return array.tocsr() if len(shape) == 2 else array
    kinds = ["compressed"] * len(shape)
    if levels == "dense outside" and len(shape) > 1:
        kinds[0] = "dense"
    return Tensor.from_scipy(array, levels=kinds, dtype=chip.config.dtype)
