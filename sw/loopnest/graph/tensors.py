"""Where the tensors of a graph are, for kernels and for the host."""

from collections.abc import Mapping, Sequence
from typing import Any

from loopnest_hw.config import NumberFormat

from ..epilogue import Epilogue
from ..formats.tensor import Tensor
from .builder import MAX_MODES, Builder
from .examples import Seen
from .graph import Graph, dense, unused
from .image import Image, Room, pixel_steps
from .scales import MAX_STEPS, NARROW, Scales
from .stages import MOVED
from .steps import find_steps
from .values import Fixed, Value

NARROW_INPUTS = {"linear", "matmul", "conv", "mul", "hardsigmoid"}
"""Operators whose inputs are narrow where they can be: a product takes one wide factor, and the
argument of hardswish is a factor too.
"""

KEEPS_NUMBERS = {*MOVED, "pad", "fake_quantize", "clamp", "relu"}
"""Operators whose result is NaN only where their first input is."""

MIN_ZEROS = 0.3
"""Share of zeros of activations from which they are stored without them."""

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
        self._makers = {node.result: node for node in graph.nodes}
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
        found = self.integers_of(name, scale, narrow=narrow, sample=self.sample(name))
        return Value.whole(found, self._reals[name].shape, wide=not narrow)

    def integers_of(self, name: str, scale: Scale, *, narrow: bool, sample: Any = None) -> str:
        """Return the tensor of the program that the host makes of one that it has, as integers:
        with fewer modes than the graph's where kernels read no more.
        """
        shape = self.shape(name)
        plain = self.plain(name)
        if len(shape) > MAX_MODES:
            shape = fewer_modes(shape)
            plain = self.build.reshaped(plain, shape)
            sample = None if sample is None else sample.reshape(shape)
        return self.build.host(
            "to_steps",
            [plain],
            shape,
            name,
            self.to_steps(name, scale, narrow=narrow),
            wide=not narrow,
            sample=sample,
        )

    def to_steps(self, name: str, scale: float, *, narrow: bool) -> Mapping[str, Any]:
        """Return the attributes of the operator that makes integers of a tensor of the host."""
        found: dict[str, Any] = {"name": self._described(name)}
        if name in self.steps:
            own = self.steps[name]
            return found | {"scale": own.scale, "low": own.low, "high": own.high}
        limit = NARROW if narrow else MAX_STEPS
        return found | {"scale": scale, "low": -limit, "high": limit}

    def _described(self, name: str) -> str:
        """Return what a tensor is for a user: the input whose numbers it has, or its name."""
        source = name
        while (maker := self._makers.get(source)) and maker.operator in KEEPS_NUMBERS:
            source = maker.inputs[0]
        return f"input {source}" if source in self.graph.inputs else name

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


def fewer_modes(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape of as many elements that kernels can read."""
    *first, last = [size for size in shape if size != 1] or [1]
    while len(first) >= MAX_MODES:
        last *= first.pop()
    return (*first, last)
