"""Lowers a graph to the items of a program: statements, and operators of the host."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from loopnest_hw.config import NumberFormat

from ..epilogue import Epilogue
from ..formats.pack import COMPRESSED
from ..formats.tensor import Tensor
from ..images.layer import Layer
from ..images.layout import ImageLayout
from .builder import MAX_MODES, Builder
from .examples import Seen
from .graph import Graph, Node, dense
from .image import Image, Room, pixel_steps
from .placement import Placed
from .scales import ADDING, NARROW, WIDE, Scales, quantized
from .stages import MOVED, Stage
from .values import Fixed, Value

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


class Lowering:
    """The state of lowering a graph; operators add items to it.

    On an int8 chip, a tensor of real numbers is integers with a scale where kernels have it, and
    real numbers where the host has it.

    Attributes
    ----------
    graph : Graph
    build : Builder
        Of the program.
    placed : list of Placed
    """

    def __init__(
        self, graph: Graph, seen: Mapping[str, Seen], dtype: NumberFormat, *, skip_zeros: bool
    ) -> None:
        self.graph, self._seen, self.uses = graph, dict(seen), graph.uses()
        self._dtype, self.build = dtype, Builder(graph.inputs, skip_zeros=skip_zeros)
        self.placed: list[Placed] = []
        self.shapes = {name: s.shape for name, s in seen.items()}
        self.shapes |= {name: tuple(a.shape) for name, a in graph.constants.items()}
        self._constants = dict(graph.constants)
        self._values: dict[str, Value] = {}
        self._reals: dict[str, Value] = {}
        self.images: dict[str, Image] = {}
        self.rooms: dict[str, Room] = {}
        self._known: dict[Any, str] = {}
        self.integers = dtype is NumberFormat.INT8
        self._scales = Scales(graph, seen, self.narrow) if self.integers else None
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

    def constant(self, name: str) -> Any:
        """Return a tensor of the graph if it is known before a run, otherwise None."""
        return self._constants.get(name)

    def real(self, name: str) -> bool:
        """Return whether a tensor of the graph has real numbers."""
        array = self.constant(name)
        return self._seen[name].real if array is None else array.dtype.kind == "f"

    def define(self, name: str, value: Value) -> None:
        """Say where a tensor of the graph is."""
        self._values[name] = value

    # Scales

    def factor(
        self, name: str, axis: int | None = None, *, narrow: bool = False
    ) -> tuple[str, Scale]:
        """Return the factor of a product that a tensor of the graph is, and its scale; that of
        weights may vary along an axis. It is narrow on an int8 chip, or if that is said.
        """
        if self._scales is None:
            if narrow and self.constant(name) is None and self._on_chip(name).wide:
                self.copy(name, narrow=True)
            return name, 1.0
        if self.constant(name) is not None:
            integers, scale = self.weights(name, axis)
            found = f"{name}.{'steps' if axis is None else f'steps{axis}'}"
            self._constants[found] = integers
            return found, scale
        wide = self._values[name].wide if name in self._values else not self.narrow(name)
        name = self._narrowed(name) if wide else name
        self._on_chip(name)
        return name, self._scale(name)

    def weights(self, name: str, axis: int | None) -> tuple[Any, Scale]:
        """Return a constant as the chip has it, and its scale, which may vary along an axis."""
        array = self.constant(name)
        return quantized(name, array, axis) if self.integers else (array, 1.0)

    def term(self, name: str, scale: Scale) -> str:
        """Return the term of a sum that a tensor of the graph is, with this scale."""
        array = self.constant(name)
        if self._scales is None or array is None:
            return name
        found = f"{name}.term"
        self._constants[found] = np.rint(dense(array) / scale).astype(np.int32)
        return found

    def wide(self, integers: Any) -> Any:
        """Return a constant term as the chip has it: int8 has no room for it."""
        if not self.integers:
            return integers
        return Tensor.from_dense(integers, dtype=self._dtype, wide=True)

    def scale(self, name: str) -> Scale:
        """Return the scale of a tensor that is not constant; 1 but on an int8 chip."""
        return 1.0 if self._scales is None else self._scale(name)

    def _scale(self, name: str) -> float:
        assert self._scales is not None
        if name.endswith(".narrow"):
            return self.narrow_scale(name)
        return self._scales.of(name)

    def narrow_scale(self, name: str) -> float:
        """Return the scale of a tensor that is stored narrow."""
        seen = self._seen[name]
        return seen.largest / NARROW

    def _narrowed(self, name: str) -> str:
        """Return a tensor of an int8 chip as a narrow one of its own scale."""
        found = f"{name}.narrow"
        if found in self._values:
            return found
        self._seen[found] = self._seen[name]
        if name in self._reals:
            self._values[found] = self._in_steps(name, self._scale(found), narrow=True)
        else:
            self._values[found] = self._on_chip(name)
            self.copy(found, narrow=True, scale=self._scale(name) / self._scale(found))
        return found

    def _on_chip(self, name: str) -> Value:
        """Return where kernels find a tensor of the graph."""
        if name not in self._values and name in self.images:
            self._values[name] = self._from_image(name)
        if name not in self._values:
            narrow = self.narrow(name)
            self._values[name] = self._in_steps(name, self._scale(name), narrow=narrow)
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
        attributes = {"scale": scale, "limit": NARROW if narrow else WIDE << 6}
        tensor = self.build.host(
            "to_steps", [self.plain(name)], shape, name, attributes, wide=not narrow
        )
        return Value.whole(tensor, shape, wide=not narrow)

    # Images

    def place_image(self, name: str, layout: ImageLayout) -> None:
        """Put a tensor into a layout of images: one of single pixels as it is, if kernels have it,
        any other one by the host.
        """
        if layout.positions == layout.batch and name in self._values:
            value = self._values[name]
            pixels = [axis for axis in (0, 1) if value.shape[axis] != 1]
            if list(value.axes) == pixels and not value.cuts:
                tensor = self.build.reshaped(value.tensor, layout.shape)
                self.images[name] = Image(tensor, layout, value.wide)
                return
        attributes = {
            "origin": layout.origin,
            "steps": pixel_steps(layout),
            "positions": layout.positions,
        }
        tensor = self.build.host("place_pixels", [self.plain(name)], layout.shape, name, attributes)
        narrow = self.narrow(name)
        if self.integers:
            steps = {"scale": self._scale(name), "limit": NARROW if narrow else WIDE << 6}
            tensor = self.build.host(
                "to_steps", [tensor], layout.shape, name, steps, wide=not narrow
            )
        self.images[name] = Image(tensor, layout, self.integers and not narrow)

    def add_layer(self, stage: Stage, tensor: str, layer: Layer, epilogue: Epilogue | None) -> None:
        """Add the layer that computes a stage's result."""
        self.build.add_layer(tensor, layer, epilogue)
        wide = epilogue is None or not epilogue.narrow
        out = self.build.levels(tensor)
        low = epilogue is not None and (epilogue.relu or (epilogue.clamp or (None,))[0] == 0)
        self.images[stage.result] = Image(tensor, layer.layout, wide, low or COMPRESSED not in out)
        self.placed += [Placed(node, "chip", layer=tensor) for node in stage.nodes]

    # Statements

    def stored(self, name: str, groups: Sequence[Group]) -> bool:
        """Return whether a tensor of the graph stores each of these groups of axes as one."""
        known = self.constant(name) is not None
        return known or self._on_chip(name).grouped([axes for _, axes in groups]) is not None

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
        tensor = self.build.reshaped(value.tensor, shape)
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
            if name.endswith(".term"):
                found = self.wide(found)
            self._known[key] = self.build.add_constant(name, found)
        indices = ",".join(index for index, _ in kept)
        return f"{self._known[key]}[{indices}]" if kept else self._known[key]

    def statement(
        self,
        stage: Stage,
        groups: Sequence[Group],
        expression: str,
        *,
        unit: Scale = 1.0,
        sizes: Mapping[str, int] | None = None,
        semiring: str = "plus_times",
    ) -> None:
        """Add the statement that computes a stage's result, its axes walked by these indices;
        ``unit`` is the scale of what it sums.
        """
        result, shape = stage.result, stage.shape
        wanted = self._wanted_axes(result, len(shape))
        kept = [(i, [a for a in axes if shape[a] != 1]) for i, axes in groups]
        kept = [(index, axes) for index, axes in kept if axes]
        order = sorted(kept, key=lambda group: wanted.index(group[1][0]))
        narrow = self.narrow(result)
        if self._scales is not None:
            stage.in_steps(unit, self._scale(result))
        mode = next((m for m, (_, axes) in enumerate(order) if axes == [stage.feature]), None)
        sizes_of = [prod(shape[a] for a in axes) for _, axes in order]
        epilogue = stage.epilogue(len(order), mode, narrow=narrow)
        sample = self._sparse(stage, epilogue, sizes_of)
        tensor = self.build.add_statement(
            result,
            [index for index, _ in order],
            expression,
            sizes_of,
            epilogue=epilogue,
            semiring=semiring,
            sizes=sizes,
            sample=sample,
        )
        axes = tuple(axis for _, group in order for axis in group)
        self._values[result] = Value(tensor=tensor, shape=shape, axes=axes, wide=not narrow)
        self.placed += [Placed(node, "chip", layer=tensor) for node in stage.nodes]

    def _sparse(self, stage: Stage, epilogue: Epilogue | None, shape: Sequence[int]) -> Any:
        """Return where the example of a result has entries, if it is to be stored without zeros:
        where there are many, and only products follow that read it as it is written.
        """
        uses = self.uses.get(stage.result, [])
        reads = all(n.operator == "linear" and n.inputs.count(stage.result) == 1 for n in uses)
        seen = self._seen[stage.result]
        if not (stage.operator == "linear" and reads and uses) or seen.zeros < MIN_ZEROS:
            return None
        kept = (
            epilogue is not None and epilogue.keeps_zero and stage.result not in self.graph.outputs
        )
        return seen.pattern.reshape(shape) if kept else None

    def _wanted_axes(self, name: str, rank: int) -> list[int]:
        """Return the order of axes in which the operators after it want a tensor."""
        uses = self.uses.get(name, [])
        if len(uses) == 1 and uses[0].operator == "transpose":
            return list(uses[0].attributes["axes"])
        return list(range(rank))

    def copy(self, name: str, *, narrow: bool = False, scale: float | None = None) -> None:
        """Add a statement that copies a tensor of the graph, so that it is stored in the order of
        its axes, and is narrow if that is said; its values times a scale.
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
        narrow = narrow or not value.wide
        tensor = self.build.add_statement(
            name,
            [index for index, _ in letters],
            expression,
            [prod(shape[axis] for axis in run) for run in runs],
            epilogue=Epilogue(scale=scale, out="narrow") if narrow else None,
            sizes=sizes,
        )
        self._values[name] = Value.whole(tensor, shape, wide=not narrow)

    def narrow(self, name: str) -> bool:
        """Return whether a result is stored narrow: where all that use it take it so."""
        return name not in self.graph.outputs and all(
            self.narrow(node.result) if node.operator in MOVED else node.operator in NARROW_INPUTS
            for node in self.uses.get(name, [])
        )

    def one_wide(self, names: Sequence[str]) -> None:
        """Store all but one of the factors of a product narrow; `factor` stores all on int8."""
        if self.integers:
            return
        wide = [
            name
            for name in dict.fromkeys(names)
            if self.constant(name) is None and self._on_chip(name).wide
        ]
        twice = len(wide) == 1 and list(names).count(wide[0]) > 1
        for name in wide if twice else wide[1:]:
            self.copy(name, narrow=True)

    def move(self, node: Node) -> bool:
        """Change how a tensor is seen; return whether that is possible without moving elements."""
        (name,) = node.inputs
        stores = [s for s in (self._values, self._reals) if name in s]
        if not stores:
            self._on_chip(name)
            stores = [self._values]
        found = [_moved(store[name], node) for store in stores]
        if None in found and stores == [self._values] and self.real(name):
            self.copy(name)
            found = [_moved(self._values[name], node)]
        for store, value in zip(stores, found, strict=True):
            if value is not None:
                store[node.result] = value
        return any(value is not None for value in found)

    # The host

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
                "from_steps", [steps], shape, name, {"scale": self._scale(name)}
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
            return self._arranged(name, self._on_chip(name))
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

    def on_host(self, node: Node, why: str) -> None:
        """Add an operator of the graph that the host computes."""
        shape = self.shape(node.result)
        operands = [self.plain(name) for name in node.inputs]
        values = self._of_host(node.result)
        wide = values is self._values and self.real(node.result) and self._added(node.result)
        wide &= len(shape) <= MAX_MODES
        tensor = self.build.host(
            node.operator, operands, shape, node.result, dict(node.attributes), wide=wide
        )
        values[node.result] = Value.whole(tensor, shape, wide=wide)
        self.placed.append(Placed(node, "host", why, tensor))

    def _added(self, name: str) -> bool:
        """Return whether a kernel adds a tensor to another one."""
        return any(
            self._added(node.result) if node.operator in MOVED else node.operator in ADDING
            for node in self.uses.get(name, [])
        )


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
    return replace(value)


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
