"""Programs of graphs."""

from typing import Any

from ..program.device import Device
from ..program.program import Program
from .emit import emit
from .graph import Graph
from .lower import Lowering
from .placement import Placement
from .rewrite import example_values, simplified
from .stages import find_stages


class Model(Program):
    """A program that computes a graph. Its inputs and results have the names of the graph's.

    Attributes
    ----------
    placement : Placement
        Where each operator of the graph is computed, and why.

    Raises
    ------
    ValueError
        If an operator refuses its inputs, or a weight cannot be represented.
    """

    def __init__(self, device: Device, graph: Graph) -> None:
        graph = simplified(graph)
        seen = example_values(graph)
        lowering = Lowering(graph, seen, device.config.dtype)
        shapes = {name: s.shape for name, s in seen.items()}
        shapes |= {name: tuple(array.shape) for name, array in graph.constants.items()}
        real = {name for name, s in seen.items() if s.real}
        for stage in find_stages(graph, shapes, real):
            emit(lowering, stage)
        tensors = [lowering.plain(name) for name in graph.outputs]
        super().__init__(
            device,
            lowering.build.items,
            lowering.build.inputs,
            constants=lowering.build.constants,
            results=tensors,
            samples=lowering.build.samples,
            finite=True,
        )
        self.outputs = graph.outputs
        self._tensors = dict(zip(graph.outputs, tensors, strict=True))
        self.placement = Placement(graph, seen, lowering.placed)

    def run(self, **named: Any) -> dict[str, Any]:
        found = super().run(**named)
        return {name: found[tensor] for name, tensor in self._tensors.items()}

    def __call__(self, *inputs: Any) -> Any:
        if len(inputs) > len(self.inputs):
            raise TypeError(f"{len(inputs)} inputs: expected up to {len(self.inputs)}")
        found = self.run(**dict(zip(self.inputs, inputs, strict=False)))
        results = tuple(found[name] for name in self.outputs)
        return results[0] if len(results) == 1 else results
