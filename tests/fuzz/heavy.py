"""Products of matrices with heavy rows, which several kernels compute."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest.formats.panels import PANEL

from .cases import Case, Given
from .patterns import random_array

STATEMENTS = (
    "X[i] = A[i,j] * B[j]",
    "X[i] = -A[i,j] * B[j]",
    "X[i] = A[i,j]",
    "X[i] = A[i,j] * B[j] * C[j]",
    "X[i] = D[i] + A[i,j] * B[j]",
    "X[i] = B[j] * A[j,i]",
    "X[i,k] = A[i,j] * E[j,k]",
    "X[i,k] = E[j,k] * A[j,i]",
    "X[i,k,l] = A[i,j] * F[j,k,l]",
)

WEIGHTS = (1, 1, 100)
"""Weights of a matrix from which it may have heavy rows."""


def heavy_case(rng: np.random.Generator, case: Case) -> Case:
    """Return a case with the semiring and the memory of another one: a matrix with one or more rows
    that are far heavier than others, times something.
    """
    signs = case.semiring in ("plus_times", "plus_pair", "plus_first", "plus_second")
    statement = str(rng.choice([s for s in STATEMENTS if signs or "-" not in s]))
    sizes = {"i": int(rng.integers(1, 40)), "j": int(rng.integers(17, 400))}
    sizes |= {"k": int(rng.integers(1, 20)), "l": int(rng.choice([3, 16]))}
    exact = case.dtype == "int8" or bool(rng.random() < 0.5)

    def values(shape: tuple[int, ...]) -> NDArray[Any]:
        if exact:
            found = rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], shape)
        else:
            found = rng.normal(size=shape)
        return np.abs(found) if case.semiring == "max_times" else np.asarray(found)

    shape = sizes["i"], sizes["j"]
    density = np.full((sizes["i"], 1), rng.choice([0, 0.01, 0.05]))
    some = rng.choice(sizes["i"], int(rng.integers(1, 4)))
    density[some] = rng.choice([0.2, 0.6, 1], (len(some), 1))
    A = values(shape) * (rng.random(shape) < density)
    by_columns = "A[j,i]" in statement
    operands = {"A": Given(A.T if by_columns else A, str(rng.choice(["csr", "csc", "coo"])))}
    if rng.random() < 0.3:
        modes = (1, 0) if by_columns else (0, 1)
        levels = (str(rng.choice(["dense", "compressed"])), "compressed")
        operands["A"] = replace(operands["A"], kind="tensor", levels=levels, modes=modes)
    for name, indices in {"B": "j", "C": "j", "D": "i", "E": "jk", "F": "jkl"}.items():
        if f"{name}[" in statement:
            own = tuple(sizes[i] for i in indices)
            array = values(own)
            if rng.random() < 0.2:
                array = random_array(rng, own, exact)
                array = np.abs(array) if case.semiring == "max_times" else array
            operands[name] = Given(array)
    loops = [i for i in "ijkl" if i in statement.split("=")[0] or i == "j"]
    order = None if rng.random() < 0.2 else tuple(loops)
    return replace(
        case,
        statement=statement,
        operands=operands,
        order=order,
        out=("dense",) * (len(loops) - 1),
        epilogue=None,
        panel=PANEL,
        heavy=int(rng.choice(WEIGHTS)),
    )
