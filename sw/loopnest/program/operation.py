"""What a program has besides statements: operators that the host computes, and other shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..expression.expected import Expected, in_order
from ..expression.operand import Operand
from ..formats.pack import DENSE
from ..formats.tensor import Tensor, sparse_levels
from ..named import named
from ..operators import OPERATORS
from .steps import HostStep

named(NumberFormat)

BOUND = 2.0**32
"""What values that the host computes are taken to lie within, when zeros are left out."""


@named
@dataclass(frozen=True, kw_only=True)
class HostOperation:
    """An operator of `OPERATORS` that the host computes, on whole tensors.

    Attributes
    ----------
    result : str
    operator : str
    operands : tuple of str
        Inputs of the program, or results of what is before.
    attributes : mapping
        Keyword arguments of the operator.
    shape : tuple of int
        Of the result.
    wide : bool
        Whether kernels read the result as fp32 or int32, not as bf16 or int8.
    """

    result: str
    operator: str
    operands: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...]
    wide: bool = False

    def __str__(self) -> str:
        return f"{self.result} = {self.operator}({', '.join(self.operands)})"

    def step(
        self, operands: Sequence[Operand], dtype: NumberFormat, sample: Any = None
    ) -> HostStep:
        """Return the step of a program; ``sample`` is a sparse array, an example of a result that
        kernels read without its zeros.
        """
        sparse = sp.issparse(sample)
        entries = (lambda: [np.asarray(c) for c in sample.tocoo().coords]) if sparse else None
        layout = None
        if self.wide:
            rank = len(self.shape)
            layout = in_order(sparse_levels(rank) if sparse else (DENSE,) * rank)
        expected = Expected(
            self.result,
            self.shape,
            dtype,
            entries,
            layout=layout,
            wide=self.wide,
            bounds=(-BOUND, BOUND),
        )
        what = f"compute {self.operator} for {self.result}"
        return HostStep(what, tuple(operands), expected, partial(self._apply, dtype, sparse))

    def _apply(self, dtype: NumberFormat, sparse: bool, *operands: Operand) -> Operand:
        arrays = [whole(operand) for operand in operands]
        found: Any = OPERATORS[self.operator].reference(*arrays, **self.attributes)
        if found.shape != self.shape:
            raise ValueError(f"{self}: shape {found.shape}: expected {self.shape}")
        if sparse and not sp.issparse(found):
            found = sp.coo_array(found)
        if self.wide:
            make = Tensor.from_scipy if sp.issparse(found) else Tensor.from_dense
            found = make(found, dtype=dtype, wide=True)
        return Operand(self.result, found, dtype)


@dataclass(frozen=True, kw_only=True)
class Reshape:
    """A tensor of a program in another shape of as many elements; where it is dense and in the
    order of its modes, nothing is moved.
    """

    result: str
    operand: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.result} = {self.operand} as {' x '.join(map(str, self.shape))}"


def whole(operand: Operand) -> NDArray[Any]:
    """Return an operand's values as an array of NumPy, zeros included."""
    source = operand.source
    if isinstance(source, Tensor):
        return np.asarray(source.to_dense())
    return np.asarray(source.toarray() if sp.issparse(source) else source)
