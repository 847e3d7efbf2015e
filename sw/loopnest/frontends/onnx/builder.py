"""Makes a graph while the nodes of a model are read: folds what is known, names what is computed.

Shapes come from example inputs: every node is computed once with them, so that all shapes are
numbers, and what depends on shapes only is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ...graph.graph import Graph, Node, dense
from ...graph.steps import Quantized, fold_quantized
from ...operators import OPERATORS

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the model.

    Attributes
    ----------
    name : str
    content : array
        Of NumPy, or of SciPy where the file is sparse, or `Quantized`: its numbers for the example
        inputs.
    known : bool
        Whether the numbers are the same for all inputs.
    """

    name: str
    content: Any
    known: bool

    @cached_property
    def array(self) -> Array:
        """The numbers, dense."""
        return dense(self.content)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.content.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.content.dtype)

    @property
    def scalar(self) -> Any:
        """The number, as Python's, of a known tensor of one element; otherwise None."""
        return self.array.item() if self.known and np.prod(self.shape) == 1 else None


class Builder:
    """The nodes so far.

    Parameters
    ----------
    inputs : mapping of str to array
        The example inputs.
    """

    def __init__(self, inputs: Mapping[str, Array]) -> None:
        self.inputs = dict(inputs)
        self.nodes: list[Node] = []
        self.constants: dict[str, Any] = {}
        self.names = set(inputs)
        self.renamed: dict[str, str] = {}
        # those of int32 that are computed as float32
        self.integers: dict[str, Value] = {}
        self.origin = ""
        self.label = ""

    def at(self, origin: str, label: str) -> None:
        """Set the place in the file that the next nodes come from, and what their names begin
        with.
        """
        self.origin, self.label = origin, label

    def known(self, content: Any, name: str = "") -> Value:
        """Return a constant tensor."""
        kept = sp.issparse(content) or isinstance(content, Quantized)
        content = content if kept else np.asarray(content)
        return Value(self._unique(name or self.label), content, True)

    def like(self, number: float, value: Value) -> Value:
        """Return a constant number of a tensor's type."""
        return self.known(np.asarray(number, value.dtype))

    def emit(self, operator: str, *inputs: Value, **attributes: Any) -> Value:
        """Apply an operator: at once if all inputs are known, otherwise as a node of the graph.

        Raises
        ------
        ValueError
            If the operator refuses its inputs.
        """
        label = self.label
        if all(value.known for value in inputs):
            if inputs:  # messages name what a constant is made of
                label = max(inputs, key=lambda value: prod(value.shape)).name
            for fold in (_fold_sparse, fold_quantized):
                folded = fold(operator, [value.content for value in inputs], attributes)
                if folded is not None:
                    return Value(self._unique(label), folded, True)
        name = self._unique(label)
        node = Node(name, operator, tuple(v.name for v in inputs), attributes, self.origin)
        with np.errstate(all="ignore"):
            content = _compute(operator, inputs, attributes)
        if all(value.known for value in inputs):
            return Value(name, content, True)
        for value in inputs:
            if value.known:
                self.constants[value.name] = value.content
        self.nodes.append(node)
        return Value(name, content, False)

    def name(self, value: Value, name: str) -> Value:
        """Return a tensor under the name that it has in the file, where none has it yet."""
        if name in self.names or value.name in self.renamed or value.name in self.inputs:
            return value
        if value.known:
            self.names.add(name)
            return replace(value, name=name)
        self.names.add(name)
        self.renamed[value.name] = name
        return value

    def finish(self, outputs: Sequence[tuple[str, Value]]) -> Graph:
        """Return the graph of the nodes that outputs need; outputs have the names given."""
        taken = set(self.inputs)
        for name, value in outputs:
            if value.known:
                self.constants[name] = value.content
            elif value.name not in taken:
                taken.add(value.name)
                self.renamed[value.name] = name
            elif value.name != name:
                copy = self.emit("reshape", value, shape=value.shape)
                self.renamed[copy.name] = name
        names = self.renamed
        nodes = [
            replace(
                node,
                result=names.get(node.result, node.result),
                inputs=tuple(names.get(i, i) for i in node.inputs),
            )
            for node in self.nodes
        ]
        found = tuple(name for name, _ in outputs)
        return Graph(self.inputs, self.constants, tuple(nodes), found).needed()

    def _unique(self, label: str) -> str:
        """Return a name that nothing else has."""
        name, n = label, 0
        while name in self.names or name == self.label:
            n += 1
            name = f"{label}.{n}"
        self.names.add(name)
        return name


def _compute(operator: str, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Array:
    reference = OPERATORS[operator].reference
    return np.asarray(reference(*(value.array for value in inputs), **attributes))


def _fold_sparse(operator: str, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Return what an operator makes of sparse constants where it is sparse too, otherwise None."""
    if not inputs:
        return None
    content = inputs[0]
    if operator == "mul" and len(inputs) == 2:
        for one, other in (inputs, inputs[::-1]):
            if sp.issparse(one) and other.size == 1 and other.ndim <= one.ndim:
                dtype = np.result_type(one.dtype, other.dtype)
                return (one * dense(other).item()).astype(dtype)
    if not sp.issparse(content):
        return None
    if operator == "transpose":
        return content.transpose(attributes["axes"])
    if operator == "reshape":
        return content.reshape(tuple(attributes["shape"]))
    if operator == "cast":
        return content.astype(attributes["dtype"])
    return None
