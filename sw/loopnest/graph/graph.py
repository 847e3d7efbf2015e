"""A model as a graph of operators on named tensors, whatever form it came in."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..operators import OPERATORS

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Node:
    """An operator applied to tensors.

    Attributes
    ----------
    result : str
        The name of what it computes.
    operator : str
        One of `OPERATORS`.
    inputs : tuple of str
        Graph inputs, constants, or results of nodes before.
    attributes : mapping
        Keyword arguments of the operator.
    origin : str
        Where it is in the model, for messages and reports: ``"features.0 (aten.convolution)"``.
    """

    result: str
    operator: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def __str__(self) -> str:
        return self.origin or f"{self.operator} {self.result}"

    def apply(self, *inputs: Array) -> Array:
        """Compute the result with NumPy.

        Raises
        ------
        ValueError
            If the operator refuses its inputs; the message names the node.
        """
        try:
            return np.asarray(OPERATORS[self.operator].reference(*inputs, **self.attributes))
        except (ValueError, TypeError, IndexError) as error:
            raise ValueError(f"{self}: {error}") from error


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in an order in which they can run.

    Attributes
    ----------
    inputs : mapping of str to array
        Examples of the inputs; a run's inputs have the same shapes and types.
    constants : mapping of str to array
        Weights and other known tensors: arrays of NumPy, or sparse ones of SciPy.
    nodes : tuple of Node
    outputs : tuple of str

    Raises
    ------
    ValueError
        If a name is used that nothing before computes, or is computed twice, or an operator is
        unknown.
    """

    inputs: Mapping[str, Array]
    constants: Mapping[str, Any]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known = set(self.inputs) | set(self.constants)
        if len(known) < len(self.inputs) + len(self.constants):
            twice = set(self.inputs) & set(self.constants)
            raise ValueError(f"{', '.join(sorted(twice))}: both an input and a constant")
        for node in self.nodes:
            if node.operator not in OPERATORS:
                raise ValueError(f"{node}: unknown operator {node.operator!r}")
            for name in node.inputs:
                if name not in known:
                    raise ValueError(f"{node}: nothing before it computes {name!r}")
            if node.result in known:
                raise ValueError(f"{node}: {node.result!r} is computed before")
            known.add(node.result)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"output {name!r}: no node computes it")

    def uses(self) -> dict[str, list[Node]]:
        """Return the nodes that use each tensor, by its name."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return found

    def needed(self) -> "Graph":
        """Return the graph without nodes and constants that no output needs."""
        names, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if node.result in names:
                names.update(node.inputs)
                kept.append(node)
        constants = {name: array for name, array in self.constants.items() if name in names}
        return Graph(self.inputs, constants, tuple(reversed(kept)), self.outputs)

    def part(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> "Graph":
        """Return the graph of some tensors, computed from these inputs instead of the graph's: any
        tensors of it, with examples.

        Raises
        ------
        ValueError
            If an output needs another tensor that is no constant.
        """
        needed = set(outputs)
        nodes = []
        for node in reversed(self.nodes):
            if node.result in needed and node.result not in inputs:
                nodes.append(node)
                needed.update(node.inputs)
        constants = {name: array for name, array in self.constants.items() if name in needed}
        used = {name: array for name, array in inputs.items() if name in needed}
        return Graph(used, constants, tuple(reversed(nodes)), tuple(outputs))

    def walk(self, inputs: Mapping[str, Array] | None = None) -> Iterator[tuple[Node, Array]]:
        """Compute the nodes' results one by one with NumPy; each is dropped after its last use."""
        values = dict(self.constants) | dict(self.inputs if inputs is None else inputs)
        last = {name: node for node in self.nodes for name in node.inputs}
        for node in self.nodes:
            found = node.apply(*(dense(values[name]) for name in node.inputs))
            values[node.result] = found
            yield node, found
            for name in set(node.inputs):
                if last[name] is node and name not in self.outputs and name in values:
                    del values[name]

    def evaluate(self, inputs: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Return the outputs, computed with NumPy; by default of the examples."""
        values = dict(self.constants) | dict(self.inputs if inputs is None else inputs)
        values |= {
            node.result: found for node, found in self.walk(inputs) if node.result in self.outputs
        }
        return {name: dense(values[name]) for name in self.outputs}


def unused(name: str, taken: Collection[str]) -> str:
    """Return a name like this one that is not taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def dense(array: Any) -> Array:
    """Return an array of NumPy, of one of NumPy or SciPy."""
    return np.asarray(array.toarray() if hasattr(array, "toarray") else array)
