"""Every kind of kernel: its statement, random operands, and the reference by NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest import Epilogue, Tensor

PATTERNS = ("random", "random", "few", "empty", "full row", "full column", "dense")
SIZES = (0, 1, 2, 15, 16, 17, 32, 33)

PRODUCT = "C[i,j] = A[i,k] * B[k,j]"
BIAS, SCALE = 3, 0.25


@dataclass(frozen=True)
class Kind:
    """A kind of kernel.

    Attributes
    ----------
    statement : str
    operands : str
        Each operand with its indices; ``*`` marks a sparse one: ``"*A:ij x:j"``.
    reference : callable
        The operands as arrays, by position, to the result.
    order, out : str, optional
        Arguments of `Chip.compute`.
    epilogue : bool
        Whether bias, scale and relu are applied, and the result is narrow.
    """

    statement: str
    operands: str
    reference: Callable[..., NDArray[Any]] = np.matmul
    order: str | None = None
    out: str | None = None
    epilogue: bool = False

    @property
    def indices(self) -> dict[str, str]:
        """The indices of each operand."""
        return dict(part.strip("*").split(":") for part in self.operands.split())

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `Chip.compute` besides the operands."""
        epilogue = Epilogue(bias=BIAS, scale=SCALE, relu=True, out="narrow")
        return {
            "order": self.order,
            "out": self.out,
            "epilogue": epilogue if self.epilogue else None,
        }


KINDS = {
    "spmv": Kind("y[i] = A[i,j] * x[j]", "*A:ij x:j", order="ij"),
    "spmv by columns": Kind("y[i] = A[i,j] * x[j]", "*A:ij x:j", order="ji"),
    "spmspv": Kind("y[i] = A[i,j] * x[j]", "*A:ij *x:j", order="ij"),
    "spmspv by columns": Kind("y[i] = A[i,j] * x[j]", "*A:ij *x:j", order="ji"),
    "spmm": Kind(PRODUCT, "*A:ik B:kj", order="ikj"),
    "spmm to compressed": Kind(PRODUCT, "*A:ik B:kj", order="ikj", out="dense,compressed"),
    "spgemm by rows": Kind(PRODUCT, "*A:ik *B:kj", order="ikj"),
    "spgemm by inner products": Kind(PRODUCT, "*A:ik *B:kj", order="ijk"),
    "spgemm to dense": Kind(PRODUCT, "*A:ik *B:kj", order="ikj", out="dense,dense"),
    "sddmm": Kind(
        "D[i,j] = M[i,j] * A[i,k] * B[k,j]", "*M:ij A:ik B:kj", lambda M, A, B: M * (A @ B)
    ),
    "gemm": Kind(PRODUCT, "A:ik B:kj", order="ikj"),
    "gemm by inner products": Kind(PRODUCT, "A:ik B:kj", order="ijk"),
    "multiply": Kind("C[i,j] = A[i,j] * B[i,j]", "*A:ij *B:ij", np.multiply),
    "add": Kind("C[i,j] = A[i,j] + B[i,j]", "*A:ij *B:ij", np.add),
    "add of three": Kind(
        "D[i,j] = A[i,j] + B[i,j] - C[i,j]", "*A:ij *B:ij *C:ij", lambda A, B, C: A + B - C
    ),
    "layer": Kind(PRODUCT, "*A:ik *B:kj", order="ikj", epilogue=True),
    "layer to dense": Kind(PRODUCT, "*A:ik B:kj", order="ikj", out="dense,dense", epilogue=True),
}


def random_sizes(kind: Kind, rng: np.random.Generator, most: int = 40) -> dict[str, int]:
    """Return a size of each index, from 0 up."""
    indices = dict.fromkeys("".join(kind.indices.values()))
    return {
        index: int(rng.choice(SIZES) if rng.random() < 0.5 else rng.integers(1, most))
        for index in indices
    }


def random_operands(
    kind: Kind, sizes: Mapping[str, int], rng: np.random.Generator, dtype: str
) -> dict[str, Any]:
    """Return operands in patterns with edge cases for the hardware."""
    found: dict[str, Any] = {}
    for part in kind.operands.split():
        name, indices = part.strip("*").split(":")
        array = random_array(rng, tuple(sizes[i] for i in indices), dtype)
        if part.startswith("*"):
            coo = sp.coo_array(array)
            found[name] = coo.tocsr() if array.ndim == 2 else coo
        else:
            found[name] = array
    return found


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return an array with zeros: small integers and some limits, or normally distributed."""
    if dtype == "int8":
        values = rng.integers(-9, 10, shape) + 0.0
        values = np.where(rng.random(shape) < 0.02, rng.choice([-128, 127]), values)
    else:
        values = rng.normal(size=shape) * 2.0 ** rng.integers(-3, 4, shape)
    pattern = rng.choice(PATTERNS)
    keep = rng.random(shape) < {"empty": 0, "dense": 1, "few": 0.03}.get(pattern, 0.25)
    if pattern == "full row" and shape and shape[0]:
        keep[rng.integers(shape[0])] = True
    if pattern == "full column" and shape and shape[-1]:
        keep[..., rng.integers(shape[-1])] = True
    return values * keep


def dense(result: Any) -> NDArray[np.float64]:
    """Return a result of the chip as an array."""
    return np.asarray(result.toarray() if sp.issparse(result) else result, np.float64)


def check(kind: Kind, operands: Mapping[str, Any], dtype: str, got: Any) -> None:
    """Assert that a result equals NumPy's: exactly, or within the rounding bound.

    The bound of bf16, with u = 2^-24: a product of up to three bf16 numbers, 8 significant bits
    each, is exact in fp32's 24. A sum of n of them in any order is off by at most g(n - 1) times
    the sum of magnitudes, g(m) = m u / (1 - m u) (Higham, Accuracy and Stability, 4.2); with the
    epilogue's bias and scale it has two roundings more, and one term. Relu does not increase a
    difference. Rounding x to bf16 is off by at most 2^-8 |x|. A result that is flushed to zero adds
    less than 2^-126, of which there are at most 3 n + 2, each of them scaled up less than twice by
    what follows.
    """
    arrays = [_stored(operand, dtype) for operand in operands.values()]
    expected = kind.reference(*arrays)
    magnitudes = [np.abs(array) for array in arrays]
    terms = len(arrays)
    if "*" in kind.statement:
        result = kind.statement.split("]")[0]
        shape = [n for array in arrays for n in array.shape]
        sizes = zip("".join(kind.indices.values()), shape, strict=True)
        summed = {index: n for index, n in sizes if index not in result}
        terms = int(np.prod(list(summed.values())))
        magnitude = kind.reference(*magnitudes)
    else:
        magnitude = sum(magnitudes)
    if kind.epilogue:
        expected, magnitude = (expected + BIAS) * SCALE, (magnitude + BIAS) * SCALE
        expected = np.maximum(expected, 0)
    if dtype == "int8":
        if kind.epilogue:
            expected = np.clip(np.rint(expected), -128, 127)
        np.testing.assert_array_equal(dense(got), expected)
        return
    error = (terms + 2) * 2.0**-24
    bound = error / (1 - error) * magnitude + 2 * (3 * terms + 2) * 2.0**-126
    if kind.epilogue:
        bound = bound + 2.0**-8 * (np.abs(expected) + bound)
    assert np.shape(got) == expected.shape
    assert np.all(np.abs(dense(got) - expected) <= bound)


def _stored(operand: Any, dtype: str) -> NDArray[np.float64]:
    """Return an operand's values in the chip's number format."""
    convert = Tensor.from_scipy if sp.issparse(operand) else Tensor.from_dense
    return np.asarray(convert(operand, dtype=dtype).to_dense(), np.float64)
