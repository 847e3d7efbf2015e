"""Lowers a graph to the items of a program: statements, and operators of the host."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from loopnest_hw.config import NumberFormat

from ..epilogue import Epilogue
from ..formats.pack import COMPRESSED
from ..images.layer import Layer
from ..images.layout import ImageLayout
from .accesses import Group
from .builder import MAX_MODES
from .examples import Seen
from .factors import Factors
from .graph import Graph, Node
from .image import Image, pixel_steps
from .placement import Placed
from .scales import ADDING
from .stages import MOVED, Stage
from .tensors import Scale
from .values import Value

MOVES = "it moves what is stored"


class Lowering(Factors):
    """The state of lowering a graph; operators add items to it.

    Attributes
    ----------
    placed : list of Placed
        The operators so far.
    """

    def __init__(
        self, graph: Graph, seen: Mapping[str, Seen], dtype: NumberFormat, *, skip_zeros: bool
    ) -> None:
        super().__init__(graph, seen, dtype, skip_zeros=skip_zeros)
        self.placed: list[Placed] = []

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
            steps = self.to_steps(name, self.scale(name), narrow=narrow)
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
            stage.in_steps(unit, self.scale(result))
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
        """Return where the example of a result has entries, if it is to be stored without zeros."""
        kept = stage.operator == "linear" and epilogue is not None and epilogue.keeps_zero
        sample = self.sample(stage.result) if kept else None
        return None if sample is None else sample.reshape(shape)

    def _wanted_axes(self, name: str, rank: int) -> list[int]:
        """Return the order of axes in which the operators after it want a tensor."""
        uses = self.uses.get(name, [])
        if len(uses) == 1 and uses[0].operator == "transpose":
            return list(uses[0].attributes["axes"])
        return list(range(rank))

    # The host

    def arrange(self, name: str) -> None:
        """Let the host put the elements of a tensor of the graph in their order."""
        super().arrange(name)
        for n, placed in enumerate(self.placed):
            if placed.node.result == name and placed.where == "view":
                self.placed[n] = Placed(placed.node, "host", MOVES)

    def on_host(self, node: Node, why: str) -> None:
        """Add an operator of the graph that the host computes."""
        shape = self.shape(node.result)
        operands = [self.plain(name) for name in node.inputs]
        values = self._of_host(node.result)
        wide = values is self._values and self.real(node.result) and self._added(node.result)
        wide &= len(shape) <= MAX_MODES
        tensor = self.build.host(
            node.operator,
            operands,
            shape,
            node.result,
            dict(node.attributes),
            wide=wide,
            sample=self.sample(node.result) if values is self._values else None,
        )
        values[node.result] = Value.whole(tensor, shape, wide=wide)
        self.placed.append(Placed(node, "host", why, tensor))

    def _added(self, name: str) -> bool:
        """Return whether a kernel adds a tensor to another one."""
        return any(
            self._added(node.result) if node.operator in MOVED else node.operator in ADDING
            for node in self.uses.get(name, [])
        )
