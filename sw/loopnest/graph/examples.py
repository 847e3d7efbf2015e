"""What a graph computes for examples of its inputs: the ranges for an int8 chip's scales, and where
there are zeros.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, dense

Sample = Mapping[str, Any] | Sequence[Any]
"""Inputs of a run: by name, or in the order of the graph's inputs."""


class Seen:
    """What a tensor is for the examples.

    Attributes
    ----------
    shape : tuple of int
    real : bool
        Whether it has a floating-point type.
    zeros : float
        The share of zeros in the first example.
    low, high : float
        The least and the largest finite value in all.
    pattern : array of bool
        Where it is not 0 in the first example.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.real = array.dtype.kind == "f"
        self.zeros = 1 - np.count_nonzero(array) / max(1, array.size)
        self.low = self.high = 0.0
        self._pattern = np.packbits(array != 0)
        self.see(array)

    def see(self, array: NDArray[Any]) -> None:
        """Take another example."""
        if self.real:
            finite = np.isfinite(array)
            self.low = min(self.low, float(np.min(array, initial=0, where=finite)))
            self.high = max(self.high, float(np.max(array, initial=0, where=finite)))

    @property
    def largest(self) -> float:
        """The largest magnitude, or 1 if there are only zeros."""
        return max(-self.low, self.high) or 1.0

    @property
    def pattern(self) -> NDArray[np.bool_]:
        """Where it is not 0 in the first example."""
        size = int(np.prod(self.shape))
        return np.unpackbits(self._pattern, count=size).astype(bool).reshape(self.shape)


def example_values(graph: Graph, samples: Iterable[Sample] = ()) -> dict[str, Seen]:
    """Return what the graph's own examples and these samples make of every tensor that is not
    constant.

    Raises
    ------
    ValueError
        For a sample with other inputs than the graph's, or of another shape.
    """
    found: dict[str, Seen] = {}
    for inputs in (graph.inputs, *(_named(graph, n, s) for n, s in enumerate(samples))):
        values = [(name, dense(array)) for name, array in inputs.items()]
        for name, array in (*values, *((node.result, array) for node, array in graph.walk(inputs))):
            if name in found:
                found[name].see(array)
            else:
                found[name] = Seen(array)
    return found


def _named(graph: Graph, number: int, sample: Any) -> dict[str, NDArray[Any]]:
    """Return a sample's arrays by name, in the types of the graph's inputs."""
    what = f"calibrate: sample {number}"
    if not isinstance(sample, Mapping | Sequence) or isinstance(sample, str):
        raise TypeError(f"{what} is {type(sample).__name__}: expected inputs by name, or a tuple")
    by_name = (
        sample if isinstance(sample, Mapping) else dict(zip(graph.inputs, sample, strict=False))
    )
    if set(by_name) != set(graph.inputs) or len(sample) != len(graph.inputs):
        given = ", ".join(map(str, by_name))
        raise ValueError(f"{what} has {given}: expected {', '.join(graph.inputs)}")
    found = {}
    for name, example in graph.inputs.items():
        own = dense(example)
        array = np.asarray(by_name[name], own.dtype)
        if array.shape != own.shape:
            raise ValueError(f"{what}: {name} has shape {array.shape}: expected {own.shape}")
        found[name] = array
    return found
