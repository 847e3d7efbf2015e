"""Lowers a graph to the items of a program: statements, and operators of the host."""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..epilogue import Epilogue
from ..program.operation import HostOperation, Reshape
from ..program.prepare import TAKEN
from ..program.program import Assignment, Item
from .graph import Graph, Node, dense
from .placement import Placed
from .rewrite import Seen
from .stages import MOVED, Stage
from .values import Fixed, Value

MAX_MODES = 4

PRODUCTS = {"linear", "matmul", "conv", "mul"}
"""Operators whose inputs are narrow where they can be: a product takes one wide factor."""

Group = tuple[str, Sequence[int]]
"""An index of a statement, and the axes of a tensor that it walks, which may be none."""


class Lowering:
    """The state of lowering a graph; operators add items to it.

    Attributes
    ----------
    items : list
        Of the program, so far.
    inputs, constants, samples : dict
        Of the program, by name.
    placed : list of Placed
    """

    def __init__(self, graph: Graph, seen: Mapping[str, Seen]) -> None:
        self.graph, self.seen, self.uses = graph, seen, graph.uses()
        self.items: list[Item] = []
        self.inputs: dict[str, Any] = {}
        self.constants: dict[str, Any] = {}
        self.samples: dict[str, Any] = {}
        self.placed: list[Placed] = []
        self._values: dict[str, Value] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._host: set[str] = set()
        self._known: dict[Any, str] = {}
        self._taken = set(TAKEN) | set(graph.inputs)
        for name, array in graph.inputs.items():
            self._add_input(name, dense(array))

    # Names and tensors of the program

    def name(self, wanted: str) -> str:
        """Return a name like this one that a statement can have, and nothing else has."""
        base = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        base = base if re.match(r"[A-Za-z_]", base) else f"t{base}"
        found, number = base, 1
        while found in self._taken:
            number += 1
            found = f"{base}_{number}"
        self._taken.add(found)
        return found

    def _add_input(self, name: str, array: Any) -> None:
        self.inputs[name] = array
        tensor = name
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in TAKEN:
            tensor = self.host(
                "arrange", [name], array.shape, name, attributes=_unmoved(array.shape)
            )
        else:
            self._shapes[tensor] = array.shape
        self._values[name] = Value.whole(tensor, array.shape, wide=False)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the graph."""
        if name in self.graph.constants:
            return tuple(self.graph.constants[name].shape)
        return self.seen[name].shape

    def constant(self, name: str) -> Any:
        """Return a tensor of the graph if it is known before a run, otherwise None."""
        return self.graph.constants.get(name)

    def value(self, name: str) -> Value:
        """Return where a tensor of the graph is."""
        return self._values[name]

    def define(self, name: str, value: Value) -> None:
        """Say where a tensor of the graph is."""
        self._values[name] = value

    # Statements

    def stored(self, name: str, groups: Sequence[Group]) -> bool:
        """Return whether a tensor of the graph stores each of these groups of axes as one."""
        known = self.constant(name) is not None
        return known or self._values[name].grouped([axes for _, axes in groups]) is not None

    def access(self, name: str, groups: Sequence[Group], sizes: dict[str, int]) -> str:
        """Return the access of a tensor of the graph in a statement, its axes walked by these
        indices; the sizes of indices that stand alone nowhere are added to ``sizes``.
        """
        array = self.constant(name)
        if array is not None:
            return self._constant_access(name, array, groups)
        value = self._values[name]
        axes = [axes for _, axes in groups]
        order = value.grouped(axes)
        if order is None:
            self.copy(name)
            value = self._values[name]
            order = value.grouped(axes)
            assert order is not None
        shape, places = [], []
        for entry in order:
            if isinstance(entry, Fixed):
                shape.append(entry.size)
                places.append(str(entry.at))
                continue
            index, group = groups[entry]
            stored = [axis for axis in group if value.shape[axis] != 1]
            shape.append(prod(value.stored(axis) for axis in stored))
            place = index
            for axis in stored:
                if axis in value.cuts:
                    first, step, _ = value.cuts[axis]
                    place = f"{step}*{index}" if step != 1 else index
                    place = f"{place}+{first}" if first else place
                    sizes[index] = value.shape[axis]
            places.append(place)
        tensor = self.reshaped(value.tensor, shape)
        return f"{tensor}[{','.join(places)}]" if places else tensor

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
            self._known[key] = tensor = self.name(name)
            self.constants[tensor] = found
        indices = ",".join(index for index, _ in kept)
        return f"{self._known[key]}[{indices}]" if kept else self._known[key]

    def reshaped(self, tensor: str, shape: Sequence[int]) -> str:
        """Return a tensor of the program in another shape."""
        shape = tuple(shape)
        if self._shapes[tensor] == shape:
            return tensor
        key = tensor, shape
        if key not in self._known:
            if tensor in self.inputs or max(len(shape), len(self._shapes[tensor])) > MAX_MODES:
                found = self.host(
                    "reshape", [tensor], shape, tensor, attributes={"shape": list(shape)}
                )
            else:
                found = self.name(tensor)
                self.items.append(Reshape(result=found, operand=tensor, shape=shape))
                self._shapes[found] = shape
            self._known[key] = found
        return self._known[key]

    def statement(
        self,
        stage: Stage,
        groups: Sequence[Group],
        expression: str,
        *,
        sizes: Mapping[str, int] | None = None,
        semiring: str = "plus_times",
    ) -> None:
        """Add the statement that computes a stage's result, its axes walked by these indices."""
        result, shape = stage.result, stage.shape
        wanted = self._wanted_axes(result, len(shape))
        kept = [(i, [a for a in axes if shape[a] != 1]) for i, axes in groups]
        kept = [(index, axes) for index, axes in kept if axes]
        order = sorted(kept, key=lambda group: wanted.index(group[1][0]))
        narrow = self.narrow(result)
        modes = [index for index, _ in order]
        mode = next((m for m, (_, axes) in enumerate(order) if axes == [stage.feature]), None)
        tensor = self.name(result)
        self.items.append(
            Assignment(
                statement=f"{tensor}[{','.join(modes)}] = {expression}" if modes
                else f"{tensor} = {expression}",
                epilogue=stage.epilogue(len(modes), mode, narrow=narrow),
                semiring=semiring,
                sizes=dict(sizes) if sizes else None,
            )
        )  # fmt: skip
        self._shapes[tensor] = tuple(prod(shape[a] for a in axes) for _, axes in order)
        axes = tuple(axis for _, group in order for axis in group)
        self._values[result] = Value(tensor=tensor, shape=shape, axes=axes, wide=not narrow)
        self.placed += [Placed(node, "chip", layer=tensor) for node in stage.nodes]

    def _wanted_axes(self, name: str, rank: int) -> list[int]:
        """Return the order of axes in which the operators after it want a tensor."""
        uses = self.uses.get(name, [])
        if len(uses) == 1 and uses[0].operator == "transpose":
            return list(uses[0].attributes["axes"])
        return list(range(rank))

    def copy(self, name: str, *, narrow: bool = False) -> None:
        """Add a statement that copies a tensor of the graph, so that it is stored in the order of
        its axes, and is narrow if that is said.
        """
        value = self._values[name]
        shape = value.shape
        units = [axis for axis, size in enumerate(shape) if size != 1]
        runs = _runs(value, units)
        letters = [(f"i{n}", run) for n, run in enumerate(runs)]
        sizes: dict[str, int] = {}
        there = [(i, run) for i, run in letters if run[0] in value.axes]
        assert value.grouped([run for _, run in there]) is not None
        expression = self.access(name, there, sizes)
        for index, run in letters:
            if run[0] not in value.axes:
                ones = self.name("ones")
                self.constants[ones] = np.ones(prod(shape[axis] for axis in run), np.float32)
                expression += f" * {ones}[{index}]"
        tensor = self.name(name)
        left = ",".join(index for index, _ in letters)
        narrow = narrow or not value.wide
        self.items.append(
            Assignment(
                statement=f"{tensor}[{left}] = {expression}"
                if left
                else f"{tensor} = {expression}",
                epilogue=Epilogue(out="narrow") if narrow else None,
                sizes=sizes or None,
            )
        )
        self._shapes[tensor] = tuple(prod(shape[axis] for axis in run) for run in runs)
        self._values[name] = Value.whole(tensor, shape, wide=not narrow)

    def narrow(self, name: str) -> bool:
        """Return whether a result is stored narrow: where all that use it multiply it."""
        return name not in self.graph.outputs and all(
            self.narrow(node.result) if node.operator in MOVED else node.operator in PRODUCTS
            for node in self.uses.get(name, [])
        )

    def one_wide(self, names: Sequence[str]) -> None:
        """Store all but one of the factors of a product narrow."""
        wide = [n for n in dict.fromkeys(names) if n in self._values and self._values[n].wide]
        twice = len(wide) == 1 and list(names).count(wide[0]) > 1
        for name in wide if twice else wide[1:]:
            self.copy(name, narrow=True)

    # The host

    def host(
        self,
        operator: str,
        operands: Sequence[str],
        shape: Sequence[int],
        like: str,
        *,
        attributes: Mapping[str, Any],
        wide: bool = False,
    ) -> str:
        """Add an operator that the host computes, on tensors of the program; return its result."""
        tensor = self.name(like)
        self.items.append(
            HostOperation(
                result=tensor,
                operator=operator,
                operands=tuple(operands),
                attributes=attributes,
                shape=tuple(shape),
                wide=wide,
            )
        )
        self._shapes[tensor] = tuple(shape)
        self._host.add(tensor)
        return tensor

    def plain(self, name: str) -> str:
        """Return the tensor of the program that is a tensor of the graph, for the host."""
        array = self.constant(name)
        if array is not None:
            key = name, "host"
            if key not in self._known:
                self._known[key] = tensor = self.name(name)
                self.constants[tensor] = dense(array)
                self._shapes[tensor] = array.shape
            return self._known[key]
        value = self._values[name]
        if value.plain and (
            self._shapes[value.tensor] == value.shape or len(value.shape) <= MAX_MODES
        ):
            return self.reshaped(value.tensor, value.shape)
        stored: list[int] = []
        index: list[Any] = []
        axes: list[int] = []
        for axis in value.axes:
            if isinstance(axis, Fixed):
                stored.append(axis.size)
                index.append(axis.at)
                continue
            first, step, size = value.cuts.get(axis, (0, 1, value.shape[axis]))
            stored.append(size)
            index.append([first, first + (value.shape[axis] - 1) * step + 1, step])
            axes.append(axis)
        attributes = {"stored": stored, "index": index, "axes": axes, "shape": list(value.shape)}
        tensor = self.host("arrange", [value.tensor], value.shape, name, attributes=attributes)
        self._values[name] = Value.whole(tensor, value.shape, wide=False)
        return tensor

    def on_host(self, node: Node, why: str) -> None:
        """Add an operator of the graph that the host computes."""
        shape = self.shape(node.result)
        operands = [self.plain(name) for name in node.inputs]
        wide = self.seen[node.result].real and len(shape) <= MAX_MODES and self._added(node.result)
        attributes = dict(node.attributes)
        tensor = self.host(
            node.operator, operands, shape, node.result, attributes=attributes, wide=wide
        )
        self._values[node.result] = Value.whole(tensor, shape, wide=wide)
        self.placed.append(Placed(node, "host", why, tensor))

    def _added(self, name: str) -> bool:
        """Return whether a kernel uses a tensor in anything but a product."""
        return any(
            self._added(node.result) if node.operator in MOVED else node.operator in ("add", "sub")
            for node in self.uses.get(name, [])
        )


def _unmoved(shape: Sequence[int]) -> dict[str, Any]:
    """Return attributes of `arrange` that change nothing."""
    sizes = list(shape)
    index = [[0, size, 1] for size in sizes]
    return {"stored": sizes, "index": index, "axes": list(range(len(sizes))), "shape": sizes}


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
