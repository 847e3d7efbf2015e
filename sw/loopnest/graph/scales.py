"""The scales of an int8 chip's tensors: what a step of their integers stands for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from .examples import Seen
from .graph import Graph
from .stages import MOVED
from .steps import NARROW_HIGH, NARROW_LOW, Quantized, Steps

ADDING = ("add", "sub", "concat")
"""Operators whose inputs have one scale."""

NARROW, WIDE = 127, 1 << 16
"""The integer that stands for the largest magnitude seen of a tensor: wide ones leave headroom for
sums, which are of 32 bits.
"""

MAX_RATIO = 64
"""Of the largest magnitudes of terms that are added as integers."""

MAX_STEPS = MAX_RATIO * WIDE
"""The largest integer of a wide tensor that the host makes: larger values are cut off."""


class Scales:
    """The scales of a graph's tensors: those that the model gives, and otherwise from what the
    examples show of them.

    Parameters
    ----------
    steps : mapping of str to Steps
        Of the tensors that have them.
    narrow : callable
        Returns whether a tensor is stored narrow.
    """

    def __init__(
        self,
        graph: Graph,
        seen: Mapping[str, Seen],
        steps: Mapping[str, Steps],
        narrow: Callable[[str], bool],
    ) -> None:
        self._group: dict[str, str] = {}
        self._steps = steps
        for node in graph.nodes:
            if not seen[node.result].real or node.result in steps:
                continue
            if node.operator in MOVED:
                self._join(node.inputs[0], node.result)
            elif node.operator in ADDING:
                # a constant has the scale of each sum that it is in
                terms = [n for n in node.inputs if n not in graph.constants and n not in steps]
                sizes = [seen[name].largest for name in terms]
                if terms and max(sizes) <= MAX_RATIO * min(sizes):
                    self._join(*terms)
        largest: dict[str, float] = {}
        limit: dict[str, int] = {}
        for name, s in seen.items():
            if s.real and name not in steps:
                group = self._root(name)
                largest[group] = max(largest.get(group, 0.0), s.largest)
                limit[group] = min(limit.get(group, WIDE), NARROW if narrow(name) else WIDE)
        self._scale = {group: largest[group] / limit[group] for group in largest}

    def of(self, name: str) -> float:
        """Return the scale of a tensor of the graph."""
        own = self._steps.get(name)
        return self._scale[self._root(name)] if own is None else own.scale

    def common(self, names: Sequence[str], *, finer: bool) -> float:
        """Return a scale for the sum of tensors of the graph: that of those without steps of their
        own, that of all steps, or, where they differ or it has to be ``finer``, one that loses
        nothing of them.
        """
        free = [name for name in names if name not in self._steps]
        if free:
            return self.of(free[0])
        scales = {self.of(name) for name in names}
        if len(scales) == 1 and not finer:
            return scales.pop()
        return max(self._steps[name].largest for name in names) / MAX_STEPS

    def _root(self, name: str) -> str:
        while name in self._group:
            name = self._group[name]
        return name

    def _join(self, *names: str) -> None:
        one, *others = dict.fromkeys(self._root(name) for name in names)
        for other in others:
            self._group[other] = one


def quantized(name: str, array: Any, axis: int | None) -> tuple[Any, Any]:
    """Return an array of weights as integers, and their scale: a number, or an array along an axis.

    Those of a quantised model are its own, of int8 if that holds them less their zero point,
    otherwise of int32; the others are from -127 to 127.

    Raises
    ------
    ValueError
        Naming them, for weights that are not finite.
    """
    if isinstance(array, Quantized) and array.axis in (None, axis):
        own = array.integers
        low, high = own.min(initial=0), own.max(initial=0)
        held = low >= NARROW_LOW and high <= NARROW_HIGH
        return own.astype(np.int8 if held else np.int32), np.float64(array.scale)
    array = array.toarray() if isinstance(array, Quantized) else array
    sparse = sp.issparse(array)
    values = array.tocoo().data if sparse else np.asarray(array)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{name}: expected finite weights for an int8 chip")
    magnitude = abs(array)
    if axis is None or array.shape[axis] == 1:
        scale = (float(magnitude.max()) if values.size else 0.0) or float(NARROW)
        scale /= NARROW
        return _rounded(array / scale), scale
    if sparse:
        largest = magnitude.max(axis=1 - axis).toarray().reshape(-1).astype(np.float64)
    else:
        others = tuple(a for a in range(values.ndim) if a != axis)
        largest = np.max(magnitude, axis=others, initial=0).astype(np.float64)
    scales = np.where(largest > 0, largest, NARROW) / NARROW
    if sparse:
        steps = sp.diags_array(1 / scales)
        return _rounded(steps @ array if axis == 0 else array @ steps), scales
    along = [-1 if a == axis else 1 for a in range(values.ndim)]
    return _rounded(array / scales.reshape(along)), scales


def _rounded(array: Any) -> Any:
    """Return the nearest integers; what is 0 of a sparse array is not stored."""
    if not sp.issparse(array):
        return np.rint(array).astype(np.int8)
    found = sp.csr_array(array).rint()
    found.eliminate_zeros()
    return found
