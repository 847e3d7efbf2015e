"""The table of operators: each has a name, and a meaning in NumPy.

The meaning is what the host computes where an operator does not run on the chip, what folds
constants, and what tests compare with. Floating-point results have the type of the inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Operator:
    """An operator: ``reference(*inputs, **attributes)`` is its result.

    ``on_chip``: kernels compute it, for the shapes and attributes that lowering accepts.
    """

    name: str
    reference: Callable[..., Array]
    on_chip: bool


OPERATORS: dict[str, Operator] = {}
"""The operators by name."""


def operator(on_chip: bool) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Return a decorator that adds a function to the table, by its name without a final ``_``."""

    def add(reference: Callable[..., Array]) -> Callable[..., Array]:
        name = reference.__name__.rstrip("_")
        OPERATORS[name] = Operator(name, reference, on_chip)
        return reference

    return add


chip, host = operator(on_chip=True), operator(on_chip=False)
"""Decorators of operators that kernels compute, and of those that only the host does."""


def of_numpy(*names: str) -> None:
    """Add functions of NumPy as operators of the host that have its names."""

    def add(name: str) -> None:
        function = getattr(np, name)

        def reference(*inputs: Array) -> Array:
            return np.asarray(function(*inputs))

        reference.__name__, reference.__doc__ = name, f"`numpy.{name}`."
        host(reference)

    for name in names:
        add(name)


def number_as(x: Array, number: float) -> Any:
    """Return a number in an array's floating-point type."""
    return np.asarray(number, x.dtype if x.dtype.kind == "f" else np.float32)
