"""A random case: a statement, its operands in the form in which they are passed, and the
options.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest import Epilogue, Memory, Tensor
from loopnest.expression.virtual import MIN_WEIGHT
from loopnest.formats.panels import PANEL
from loopnest_hw.config import NumberFormat
from tests.rtl.chips import QUICK


@dataclass(frozen=True, eq=False)
class Given:
    """An operand: its values, zeros where nothing is stored, and the type in which it is passed.

    Attributes
    ----------
    array : NDArray
    kind : str
        ``"array"``, ``"csr"``, ``"csc"``, ``"coo"``, or ``"tensor"`` with the rest:
    levels, modes, wide
        Arguments of `loopnest.Tensor.from_dense`.
    """

    array: NDArray[Any]
    kind: str = "array"
    levels: tuple[str, ...] = ()
    modes: tuple[int, ...] = ()
    wide: bool = False

    def make(self, dtype: str) -> Any:
        """Return it as an argument of `loopnest.Chip.compute`."""
        if self.kind == "array":
            return self.array if self.array.ndim else float(self.array)
        if self.kind == "tensor":
            return Tensor.from_dense(
                self.array,
                levels=self.levels,
                dtype=NumberFormat(dtype),
                wide=self.wide,
                mode_order=self.modes,
            )
        return sp.coo_array(self.array).asformat(self.kind)

    def stored(self, dtype: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return its values in the chip's number format, and which are stored."""
        tensor = self.make(dtype) if self.kind == "tensor" else None
        if tensor is None:
            tensor = Tensor.from_dense(self.array, dtype=dtype)
            there = self.array != 0 if self.kind != "array" else np.ones(self.array.shape, bool)
        else:
            there = np.zeros(self.array.shape, bool)
            there[tuple(tensor.stored_entries()[0])] = True
        return np.asarray(tensor.to_dense(), np.float64), np.asarray(there)

    def __str__(self) -> str:
        wide = "wide " * self.wide
        packed = f" {','.join(self.levels)} of modes {self.modes}" if self.kind == "tensor" else ""
        return f"{wide}{self.kind} {self.array.shape}{packed}"

    def __repr__(self) -> str:
        if self.array.size:
            array = f"np.array({self.array.tolist()})"
        else:
            array = f"np.zeros({self.array.shape})"
        parts = [array] if self.kind == "array" else [array, repr(self.kind)]
        if self.kind == "tensor":
            parts += [f"levels={self.levels}", f"modes={self.modes}", *["wide=True"] * self.wide]
        return f"Given({', '.join(parts)})"


@dataclass(frozen=True, eq=False)
class Case:
    """An expression to compute.

    Attributes
    ----------
    dtype, statement : str
    operands : mapping of str to Given
        Equal ones are passed as one object, under several names.
    order, out, epilogue, semiring, complement
        Arguments of `loopnest.Chip.compute`.
    mask : Given, optional
    memory : Memory
        Timing of the RTL's memory.
    panel : int
        Coordinates of a panel.
    heavy : int
        Weight of a matrix from which it may have heavy rows.
    """

    dtype: str
    statement: str
    operands: Mapping[str, Given] = field(default_factory=dict)
    order: tuple[str, ...] | None = None
    out: tuple[str, ...] | None = None
    epilogue: Epilogue | None = None
    semiring: str = "plus_times"
    mask: Given | None = None
    complement: bool = False
    memory: Memory = QUICK
    panel: int = PANEL
    heavy: int = MIN_WEIGHT

    @property
    def exact(self) -> bool:
        """Whether every sum is of integers (which are small here), and so exact."""
        return all(np.all(g.array == np.rint(g.array)) for g in self.operands.values())

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `loopnest.Chip.compute` besides the statement."""
        made: dict[str, Any] = {}

        def make(given: Given) -> Any:
            if repr(given) not in made:
                made[repr(given)] = given.make(self.dtype)
            return made[repr(given)]

        mask = None if self.mask is None else make(self.mask)
        return {
            "order": self.order,
            "out": self.out,
            "epilogue": self.epilogue,
            "semiring": self.semiring,
            **({} if mask is None else {"mask": mask, "complement": self.complement}),
            **{name: make(given) for name, given in self.operands.items()},
        }

    def __str__(self) -> str:
        parts = [self.statement, *(f"{name}: {given}" for name, given in self.operands.items())]
        parts += [f"order={self.order}", f"out={self.out}", f"epilogue={self.epilogue}"]
        parts += [self.semiring] if self.semiring != "plus_times" else []
        parts += [f"{'not ' * self.complement}mask: {self.mask}"] if self.mask is not None else []
        parts += [f"panels of {self.panel}"] if self.panel != PANEL else []
        parts += [f"heavy rows from a weight of {self.heavy}"] if self.heavy < MIN_WEIGHT else []
        return "; ".join([*parts, str(self.memory)])

    def __repr__(self) -> str:
        own = [(f.name, getattr(self, f.name)) for f in fields(self)[2:]]
        plain = {f.name: f.default for f in fields(self)[3:]}
        shown = [f"{n}={x!r}" for n, x in own if n not in plain or x != plain[n]]
        return f"Case({', '.join([repr(self.dtype), repr(self.statement), *shown])})"


def as_array(result: Any) -> NDArray[np.float64]:
    """Return a result or an operand as an array."""
    if isinstance(result, Tensor):
        return np.asarray(result.to_dense(), np.float64)
    return np.asarray(result.toarray() if sp.issparse(result) else result, np.float64)


def entries_of(result: Any) -> NDArray[np.bool_] | None:
    """Return where a compressed result has entries; None for a dense one."""
    if isinstance(result, Tensor) and "compressed" in result.levels:
        coordinates = result.stored_entries()[0]
    elif sp.issparse(result):
        coordinates = result.tocoo().coords
    else:
        return None
    there = np.zeros(result.shape, bool)
    there[tuple(coordinates)] = True
    return there
