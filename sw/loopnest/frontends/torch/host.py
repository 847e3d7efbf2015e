"""Operators that PyTorch computes on the host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .traced import as_array, as_tensor


@dataclass(frozen=True)
class Place:
    """The place of a tensor among an operator's arguments."""

    number: int
    dtype: torch.dtype


@dataclass(frozen=True)
class HostOperator:
    """An operator of PyTorch on arrays.

    Attributes
    ----------
    name : str
        As PyTorch prints it: ``"aten.sort.default"``.
    arguments, keywords
        Its arguments; a `Place` is one of the arrays.
    output : int or None
        Which of its results, if it has more than one.
    """

    name: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: int | None = None

    def __str__(self) -> str:
        return self.name

    def __call__(self, *arrays: Any) -> Any:
        """Return the result as an array."""

        def put(argument: Any) -> Any:
            if isinstance(argument, Place):
                return as_tensor(arrays[argument.number], argument.dtype)
            return argument

        operator: Any = torch.ops
        for part in self.name.split("."):
            operator = getattr(operator, part)
        arguments = each(self.arguments, put)
        keywords = {key: each(value, put) for key, value in self.keywords.items()}
        try:
            with torch.no_grad():
                found = operator(*arguments, **keywords)
        except RuntimeError as error:
            raise ValueError(f"{self.name}: {error}") from error
        # a view of an argument must not change with it
        return np.array(as_array(found if self.output is None else found[self.output]))


def each(argument: Any, change: Callable[[Any], Any]) -> Any:
    """Return an argument, or a list or tuple of them, with each one changed."""
    if isinstance(argument, list | tuple):
        made = [each(a, change) for a in argument]
        return tuple(made) if isinstance(argument, tuple) else made
    return change(argument)
