"""How statements read the tensors of a graph: their accesses, and copies where one is needed."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..epilogue import Epilogue
from .builder import MAX_MODES
from .graph import Node, dense
from .tensors import Tensors, fewer_modes
from .values import Fixed, Place, Value

Group = tuple[str, Sequence[int]]
"""An index of a statement, and the axes of a tensor that it walks, which may be none."""


class Accesses(Tensors):
    """The tensors of a graph as operands of statements."""

    def stored(self, name: str, groups: Sequence[Group]) -> bool:
        """Return whether a tensor of the graph stores each of these groups of axes as one."""
        known = self.constant(name) is not None
        return known or self.on_chip(name).grouped([axes for _, axes in groups]) is not None

    def access(self, name: str, groups: Sequence[Group], sizes: dict[str, int]) -> str:
        """Return the access of a tensor of the graph in a statement, its axes walked by these
        indices; the sizes of indices that stand alone nowhere are added to ``sizes``.
        """
        array = self.constant(name)
        if array is not None:
            return self._constant_access(name, array, groups)
        if not self.stored(name, groups):
            self.copy(name)
        value = self._values[name]
        order = value.grouped([axes for _, axes in groups])
        assert order is not None
        places: list[Place] = []
        walked: dict[str, int] = {}
        for entry in order:
            if isinstance(entry, Fixed):
                places.append(Place(entry.size, None, entry.at))
                continue
            index, group = groups[entry]
            stored = [axis for axis in group if value.shape[axis] != 1]
            walked[index] = prod(value.shape[axis] for axis in stored)
            size = prod(value.stored(axis) for axis in stored)
            cuts = [value.cuts[axis] for axis in stored if axis in value.cuts]
            for first, step, _ in cuts or [(0, 1, size)]:
                places.append(Place(size, index, first, step))
                if cuts:
                    sizes[index] = walked[index]
        while len(places) > MAX_MODES and any(place.index is None for place in places):
            n = next(n for n, place in enumerate(places) if place.index is None)
            n = min(n, len(places) - 2)
            places[n : n + 2] = [places[n].joined(places[n + 1])]
            index = places[n].index or ""
            sizes |= {index: walked[index]} if index else {}
        tensor = self.build.reshaped(value.tensor, [place.size for place in places])
        return f"{tensor}[{','.join(map(str, places))}]" if places else tensor

    def _constant_access(self, name: str, array: Any, groups: Sequence[Group]) -> str:
        """Return the access of a constant, stored with a mode for each index."""
        kept = [(i, [a for a in axes if array.shape[a] != 1]) for i, axes in groups]
        kept = [(index, axes) for index, axes in kept if axes]
        order = [axis for _, axes in kept for axis in axes]
        shape = tuple(prod(array.shape[a] for a in axes) for _, axes in kept)
        key = name, tuple(order), shape
        if key not in self._known:
            if order == list(range(array.ndim)) and shape == array.shape:
                found = array
            else:
                whole = dense(array).reshape([s for s in array.shape if s != 1])
                stored = [a for a, s in enumerate(array.shape) if s != 1]
                found = whole.transpose([stored.index(a) for a in order]).reshape(shape)
            if name in self._wide:
                found = self.wide(found)
            self._known[key] = self.build.add_constant(name, found)
        indices = ",".join(index for index, _ in kept)
        return f"{self._known[key]}[{indices}]" if kept else self._known[key]

    def copy(
        self,
        name: str,
        *,
        narrow: bool = False,
        scale: float | None = None,
        bias: float | None = None,
    ) -> None:
        """Add a statement that copies a tensor of the graph, so that it is stored in the order of
        its axes, and is narrow if that is said; its values plus a bias times a scale, then wide if
        ``narrow`` is not said. The host puts those in order that have too many modes for it.
        """
        if self._copied_modes(name) > MAX_MODES:
            self.arrange(name)
            if not narrow and scale is None and bias is None:
                return
        value = self._values[name]
        shape = value.shape
        runs = _runs(value, [axis for axis, size in enumerate(shape) if size != 1])
        letters = [(f"i{n}", run) for n, run in enumerate(runs)]
        sizes: dict[str, int] = {}
        there = [(index, run) for index, run in letters if run[0] in value.axes]
        assert value.grouped([run for _, run in there]) is not None
        expression = self.access(name, there, sizes)
        for index, run in letters:
            if run[0] not in value.axes:
                ones = np.ones(prod(shape[axis] for axis in run), np.float32)
                expression += f" * {self.build.add_constant('ones', ones)}[{index}]"
        changed = scale is not None or bias is not None
        narrow = narrow or not (value.wide or changed)
        out = "narrow" if narrow else "wide"
        tensor = self.build.add_statement(
            name,
            [index for index, _ in letters],
            expression,
            [prod(shape[axis] for axis in run) for run in runs],
            epilogue=Epilogue(bias=bias, scale=scale, out=out) if narrow or changed else None,
            sizes=sizes,
        )
        self._values[name] = Value.whole(tensor, shape, wide=not narrow)

    def arrange(self, name: str) -> None:
        """Let the host put the elements of a tensor of the graph in their order."""
        value = self._values[name]
        shape = fewer_modes(value.shape)
        found = self.build.host(
            "reshape",
            [self._arranged(name, value)],
            shape,
            name,
            {"shape": list(shape)},
            wide=value.wide,
        )
        self._values[name] = Value.whole(found, value.shape, wide=value.wide)

    def _copied_modes(self, name: str) -> int:
        """Return how many modes a statement that copies a tensor of the graph has."""
        value = self._values[name]
        return len(_runs(value, [axis for axis, size in enumerate(value.shape) if size != 1]))

    def move(self, node: Node) -> str | None:
        """Change how a tensor is seen; return the tensor of the program that is a copy of it, if
        one is needed for that, or nothing, and None where that is not possible.
        """
        (name,) = node.inputs
        stores = [s for s in (self._values, self._reals) if name in s]
        if not stores:
            self.on_chip(name)
            stores = [self._values]
        found = [_moved(store[name], node) for store in stores]
        one = stores == [self._values] and self.real(name)
        copied = ""
        if None in found and one and self._copied_modes(name) <= MAX_MODES:
            self.copy(name)
            copied = self._values[name].tensor
            found = [_moved(self._values[name], node)]
        for store, value in zip(stores, found, strict=True):
            if value is not None:
                store[node.result] = value
        return copied if any(value is not None for value in found) else None

    def names_of(self, tensor: str) -> set[str]:
        """Return the tensors of the graph that are views of one of the program, so far."""
        return {name for name, value in self._values.items() if value.tensor == tensor}


def _moved(value: Value, node: Node) -> Value | None:
    """Return a tensor as an operator of `MOVED` shows it; None if elements have to move."""
    attributes = node.attributes
    match node.operator:
        case "transpose":
            return value.transposed(attributes["axes"])
        case "broadcast":
            return value.broadcast(attributes["shape"])
        case "reshape":
            return value.reshaped(attributes["shape"])
    for axis, start, stop, step in zip(
        *(attributes[key] for key in ("axes", "starts", "stops", "steps")), strict=True
    ):
        first, last, by = slice(start, stop, step).indices(value.shape[axis])
        value = value.cut(axis % len(value.shape), first, last, by)
    return value


def _runs(value: Value, axes: Sequence[int]) -> list[list[int]]:
    """Return the axes in groups that are stored as one, or repeat together."""
    runs: list[list[int]] = []
    for axis in axes:
        if runs and axis not in value.cuts and runs[-1][-1] not in value.cuts:
            before = runs[-1][-1]
            if axis not in value.axes and before not in value.axes:
                runs[-1].append(axis)
                continue
            if axis in value.axes and before in value.axes:
                at = value.axes.index(before)
                if value.axes[at + 1 : at + 2] == (axis,):
                    runs[-1].append(axis)
                    continue
        runs.append([axis])
    return runs
