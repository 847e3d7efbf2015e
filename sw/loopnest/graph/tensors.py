"""Where the tensors of a graph are, for kernels and for the host."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from loopnest_hw.config import NumberFormat

from ..epilogue import Epilogue
from ..formats.tensor import Tensor
from .builder import MAX_MODES, Builder
from .examples import Seen
from .graph import Graph, Node, dense, unused
from .image import Image, Room, pixel_steps
from .scales import MAX_STEPS, NARROW, Scales
from .stages import MOVED
from .steps import find_steps
from .values import Fixed, Place, Value

NARROW_INPUTS = {"linear", "matmul", "conv", "mul", "hardsigmoid"}
"""Operators whose inputs are narrow where they can be: a product takes one wide factor, and the
argument of hardswish is a factor too.
"""

MIN_ZEROS = 0.3
"""Share of zeros of activations from which they are stored without them."""

Group = tuple[str, Sequence[int]]
"""An index of a statement, and the axes of a tensor that it walks, which may be none."""

Scale = Any
"""What an integer of an int8 chip stands for: a number, or an array along a stage's feature."""


class Tensors:
    """The tensors of a graph in a program.

    On an int8 chip, a tensor of real numbers is integers with a scale where kernels have it, and
    real numbers where the host has it.

    Attributes
    ----------
    graph : Graph
    build : Builder
        Of the program.
    images : dict of str to Image
        Those tensors of the graph that are images in the chip's memory.
    steps : mapping of str to Steps
        Of those tensors that have some, on an int8 chip.
    calibrated : set of str
        Those tensors whose scale is from the examples.
    """

    def __init__(
        self, graph: Graph, seen: Mapping[str, Seen], dtype: NumberFormat, *, skip_zeros: bool
    ) -> None:
        self.graph, self._seen, self.uses = graph, dict(seen), graph.uses()
        self._dtype, self.build = dtype, Builder(graph.inputs, skip_zeros=skip_zeros)
        self.shapes = {name: s.shape for name, s in seen.items()}
        self.shapes |= {name: tuple(a.shape) for name, a in graph.constants.items()}
        self._constants = dict(graph.constants)
        self._values: dict[str, Value] = {}
        self._reals: dict[str, Value] = {}
        self.images: dict[str, Image] = {}
        self.rooms: dict[str, Room] = {}
        self._known: dict[Any, str] = {}
        self._derived: dict[tuple[str, Any], str] = {}
        self._units: dict[str, float] = {}
        self._wide: set[str] = set()
        self.integers = dtype is NumberFormat.INT8
        self.steps = find_steps(graph) if self.integers else {}
        self.calibrated: set[str] = set()
        self._scales = Scales(graph, seen, self.steps, self.narrow) if self.integers else None
        for name, array in graph.inputs.items():
            value = Value.whole(self.build.add_input(name, array), array.shape, wide=False)
            self._of_host(name)[name] = value

    def _of_host(self, name: str) -> dict[str, Value]:
        """Return where the host's tensors are: those of kernels, but for real ones as integers."""
        return self._reals if self.integers and self._seen[name].real else self._values

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the graph."""
        known = self._constants.get(name)
        return self._seen[name].shape if known is None else tuple(known.shape)

    def zeros(self, name: str) -> float:
        """Return the share of zeros of the example of a tensor that is not constant."""
        return self._seen[name].zeros

    def constant(self, name: str) -> Any:
        """Return a tensor of the graph if it is known before a run, otherwise None."""
        return self._constants.get(name)

    def real(self, name: str) -> bool:
        """Return whether a tensor of the graph has real numbers."""
        array = self.constant(name)
        return self._seen[name].real if array is None else array.dtype.kind == "f"

    def derive(self, name: str, kind: Any) -> str:
        """Return the name of a tensor that is made of one of the graph, the same for each kind."""
        if (name, kind) not in self._derived:
            taken = {*self._seen, *self._constants, *self._derived.values()}
            self._derived[name, kind] = unused(f"{name}.{kind}", taken)
        return self._derived[name, kind]

    def define(self, name: str, value: Value) -> None:
        """Say where a tensor of the graph is."""
        self._values[name] = value

    def names_of(self, tensor: str) -> set[str]:
        """Return the tensors of the graph that are views of one of the program, so far."""
        return {name for name, value in self._values.items() if value.tensor == tensor}

    # Numbers

    def wide(self, integers: Any) -> Any:
        """Return a constant term as the chip has it: int8 has no room for it."""
        if not self.integers:
            return integers
        return Tensor.from_dense(integers, dtype=self._dtype, wide=True)

    def scale(self, name: str) -> Scale:
        """Return the scale of a tensor that is not constant; 1 but on an int8 chip."""
        if self._scales is None:
            return 1.0
        if name in self._units:
            return self._units[name]
        if name not in self.steps:
            self.calibrated.add(name)
        return self._scales.of(name)

    def narrow_scale(self, name: str) -> float:
        """Return the scale of a tensor without steps that is stored narrow."""
        self.calibrated.add(name)
        return self._seen[name].largest / NARROW

    def narrow(self, name: str) -> bool:
        """Return whether a result is stored narrow: where all that use it take it so, or where that
        holds its steps.
        """
        if name in self.steps:
            return self.steps[name].narrow
        return name not in self.graph.outputs and all(
            self.narrow(node.result) if node.operator in MOVED else node.operator in NARROW_INPUTS
            for node in self.uses.get(name, [])
        )

    # For kernels

    def on_chip(self, name: str) -> Value:
        """Return where kernels find a tensor of the graph."""
        if name not in self._values and name in self.images:
            self._values[name] = self._from_image(name)
        if name not in self._values:
            narrow = self.narrow(name)
            self._values[name] = self._in_steps(name, self.scale(name), narrow=narrow)
        return self._values[name]

    def _from_image(self, name: str) -> Value:
        """Return images as a tensor of their own axes; a statement copies the pixels if there are
        several.
        """
        image = self.images[name]
        layout, shape = image.layout, self.shape(name)
        if layout.positions == layout.batch:
            pixel = tuple(axis for axis in (0, 1) if shape[axis] != 1)
            return Value(tensor=image.tensor, shape=shape, axes=pixel, wide=image.wide)
        steps = [layout.image_step, *layout.steps]
        walked = [(f"i{n}", size, step) for n, (size, step) in enumerate(
            zip((shape[0], *shape[2:]), steps, strict=True)
        ) if size != 1]  # fmt: skip
        places = [f"{step}*{index}" if step != 1 else index for index, _, step in walked]
        place = "+".join([*places, *([str(layout.origin)] if layout.origin or not places else [])])
        axes = [0, *range(2, len(shape)), 1]
        channels = [("c", shape[1])] if shape[1] != 1 else []
        found = [*((i, size) for i, size, _ in walked), *channels]
        tensor = self.build.add_statement(
            name,
            [index for index, _ in found],
            f"{image.tensor}[{place},{'c' if channels else '0'}]",
            [size for _, size in found],
            epilogue=None if image.wide else Epilogue(out="narrow"),
            sizes=dict(found),
        )
        stored = tuple(axis for axis in axes if shape[axis] != 1)
        return Value(tensor=tensor, shape=shape, axes=stored, wide=image.wide)

    def _in_steps(self, name: str, scale: float, *, narrow: bool) -> Value:
        """Return a tensor that the host has, as integers."""
        shape = self._reals[name].shape
        attributes = self.to_steps(name, scale, narrow=narrow)
        tensor = self.build.host(
            "to_steps",
            [self.plain(name)],
            shape,
            name,
            attributes,
            wide=not narrow,
            sample=self.sample(name),
        )
        return Value.whole(tensor, shape, wide=not narrow)

    def to_steps(self, name: str, scale: float, *, narrow: bool) -> dict[str, Any]:
        """Return the attributes of the operator that makes integers of a tensor of the host."""
        if name in self.steps:
            own = self.steps[name]
            return {"scale": own.scale, "low": own.low, "high": own.high}
        limit = NARROW if narrow else MAX_STEPS
        return {"scale": scale, "low": -limit, "high": limit}

    def host_has(self, name: str) -> bool:
        """Return whether only the host has a tensor of real numbers of the graph."""
        return name in self._reals and name not in self._values and name not in self.images

    def sample(self, name: str) -> Any:
        """Return where the example of a tensor is not 0, if it may be stored without zeros: where
        there are many, and only products follow that read it as it is written.
        """
        uses = self.uses.get(name, [])
        reads = all(n.operator == "linear" and n.inputs.count(name) == 1 for n in uses)
        seen = self._seen[name]
        many = bool(uses) and reads and seen.real and seen.zeros >= MIN_ZEROS
        return seen.pattern if many and name not in self.graph.outputs else None

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
        ``narrow`` is not said.
        """
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

    # For the host

    def plain(self, name: str) -> str:
        """Return the tensor of the program that is a tensor of the graph, for the host."""
        array = self.constant(name)
        if array is not None:
            key = name, "host"
            if key not in self._known:
                self._known[key] = self.build.add_constant(name, dense(array))
            return self._known[key]
        values = self._of_host(name)
        if name not in values:
            steps = self._taken(name)
            if not self._of_steps(name):
                return steps
            shape = self.shape(name)
            tensor = self.build.host(
                "from_steps", [steps], shape, name, {"scale": self.scale(name)}
            )
            values[name] = Value.whole(tensor, shape, wide=False)
        tensor = self._arranged(name, values[name])
        if values is self._reals:
            values[name] = Value.whole(tensor, values[name].shape, wide=False)
        return tensor

    def _of_steps(self, name: str) -> bool:
        """Return whether kernels have a tensor as integers that stand for real numbers."""
        return self._of_host(name) is self._reals

    def _taken(self, name: str) -> str:
        """Return the tensor of the program that is what kernels have, its elements in their places:
        the host takes the pixels of images.
        """
        if name in self._values or name not in self.images:
            return self._arranged(name, self.on_chip(name))
        key = "taken", name
        if key not in self._known:
            image, shape = self.images[name], self.shape(name)
            attributes = {
                "origin": image.layout.origin,
                "steps": pixel_steps(image.layout),
                "size": [shape[0], *shape[2:]],
            }
            self._known[key] = self.build.host(
                "take_pixels", [image.tensor], shape, name, attributes
            )
        return self._known[key]

    def _arranged(self, name: str, value: Value) -> str:
        """Return the tensor of the program that is a value, its elements in their places."""
        known = self.build.shape(value.tensor) == value.shape
        if value.plain and (known or len(value.shape) <= MAX_MODES):
            return self.build.reshaped(value.tensor, value.shape)
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
        key = "arranged", value.tensor, repr(attributes)
        if key not in self._known:
            self._known[key] = self.build.host(
                "arrange", [value.tensor], value.shape, name, attributes
            )
        return self._known[key]


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
