"""A node of a file, as its converter sees it, and the table of converters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .builder import Builder, Value

Array = NDArray[Any]


@dataclass(frozen=True)
class OnnxNode:
    """An operator of the file on its inputs.

    Attributes
    ----------
    operator : str
        ONNX's name of it.
    inputs : tuple of Value or None
        None for an optional one that is not given.
    outputs : tuple of str
        "" for one that is not used.
    attributes : mapping
        As in the file.
    opset : int
        The version of ONNX's operators that the file uses.
    """

    operator: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 0

    def optional(self, at: int) -> Value | None:
        """Return an input, None if it is not given."""
        return self.inputs[at] if at < len(self.inputs) else None

    def input(self, at: int = 0) -> Value:
        """Return an input that has to be given."""
        value = self.optional(at)
        if value is None:
            raise ValueError(f"{len(self.inputs)} inputs: expected input {at}")
        return value

    def values(self) -> tuple[Value, ...]:
        """Return all inputs, which have to be given."""
        return tuple(self.input(at) for at in range(len(self.inputs)))

    def known(self, at: int, what: str) -> Array:
        """Return the numbers of an input that has to be known.

        Raises
        ------
        ValueError
            If they depend on the inputs of the model.
        """
        value = self.input(at)
        if not value.known:
            raise ValueError(
                f"{what} ({value.name!r}) depends on the model's inputs: expected a constant"
            )
        return value.array

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute, or its default."""
        return self.attributes.get(name, default)

    def numbers(self, name: str, at: int | None) -> list[int] | None:
        """Return whole numbers that are an attribute or, in later versions, a known input."""
        if name in self.attributes:
            found = self.attributes[name]
            return [int(n) for n in (found if isinstance(found, Sequence) else [found])]
        if at is None or self.optional(at) is None:
            return None
        return [int(n) for n in self.known(at, name).reshape(-1)]

    def axis(self, default: int, rank: int) -> int:
        """Return the attribute ``axis``, counted from the front."""
        return from_front(int(self.attribute("axis", default)), rank)

    def refuse(self, name: str, *accepted: Any) -> None:
        """Refuse an attribute of another value than those accepted; the first is its default.

        Raises
        ------
        ValueError
        """
        found = self.attribute(name, accepted[0])
        if found not in accepted:
            expected = " or ".join(map(repr, accepted))
            raise ValueError(f"{name} = {found!r}: expected {expected}")

    def only_first_output(self) -> None:
        """Refuse a node whose further outputs are used.

        Raises
        ------
        ValueError
        """
        used = [name for name in self.outputs[1:] if name]
        if used:
            raise ValueError(f"output {used[0]!r} is used: expected use of the first output only")


def from_front(axis: int, rank: int) -> int:
    """Return an axis counted from the front.

    Raises
    ------
    ValueError
        If there is no such axis.
    """
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis {axis}: expected one of {rank}")
    return axis % max(rank, 1)


def numbers_as(value: Value, numbers: Any) -> Array:
    """Return numbers in a tensor's type."""
    return np.asarray(numbers, value.dtype)


Converter = Callable[[Builder, OnnxNode], Value | Sequence[Value]]
"""Emits operators of graphs for a node; returns its outputs."""

Added = TypeVar("Added", bound=Converter)

CONVERTERS: dict[str, Converter] = {}
"""The operators of ONNX that are converted."""


def converts(*operators: str) -> Callable[[Added], Added]:
    """Return a decorator that adds a converter to the table."""

    def add(converter: Added) -> Added:
        for operator in operators:
            CONVERTERS[operator] = converter
        return converter

    return add
