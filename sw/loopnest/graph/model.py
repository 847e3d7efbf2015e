"""Programs of graphs."""

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..program.device import Device
from ..program.filled import filled
from ..program.program import Program
from .emit import emit
from .examples import Sample, example_values
from .graph import Graph, dense
from .lower import Lowering
from .placement import Placement
from .quantize import with_steps
from .rewrite import simplified
from .stages import find_stages


class Model(Program):
    """A program that computes a graph. Its inputs and results have the names of the graph's.

    Parameters
    ----------
    graph : Graph
    calibrate : iterable of inputs
        Examples besides the graph's own, from which an int8 chip's scales are taken: each a mapping
        by name, or a sequence in the order of the inputs.
    skip_zeros : bool
        Whether activations may be stored without their zeros.

    Attributes
    ----------
    placement : Placement
        Where each operator of the graph is computed, and why.

    Raises
    ------
    ValueError
        If an operator refuses its inputs, or a weight cannot be represented.
    """

    def __init__(
        self,
        device: Device,
        graph: Graph,
        *,
        calibrate: Iterable[Sample] = (),
        skip_zeros: bool = True,
    ) -> None:
        integers = device.config.dtype is NumberFormat.INT8
        self.graph = graph = with_steps(simplified(graph), integers=integers)
        seen = example_values(graph, calibrate)
        lowering = Lowering(graph, seen, device.config.dtype, skip_zeros=skip_zeros)
        shapes = {name: s.shape for name, s in seen.items()}
        shapes |= {name: tuple(array.shape) for name, array in graph.constants.items()}
        real = {name for name, s in seen.items() if s.real}
        for stage in find_stages(graph, shapes, real):
            emit(lowering, stage)
        if lowering.calibrated:
            for name in graph.inputs:
                if seen[name].real and not (seen[name].low or seen[name].high):
                    raise ValueError(
                        f"input {name}: all examples are 0: expected some with the range of the "
                        f"inputs to come, since an int8 chip's scales are taken from it"
                    )
        super().__init__(
            device,
            lowering.build.items,
            lowering.build.inputs,
            constants=lowering.build.constants,
            results=[(name, lowering.plain(name)) for name in graph.outputs],
            samples=lowering.build.samples,
            finite=True,
        )
        self.placement = Placement(graph, seen, lowering.placed, self.expected)

    def dense(self) -> "Model":
        """Return the same model without a zero (`Program.dense`); zeros of activations are
        multiplied.
        """
        inputs = {name: _filled(dense(array)) for name, array in self.graph.inputs.items()}
        constants = {name: _filled(dense(array)) for name, array in self.graph.constants.items()}
        graph = Graph(inputs, constants, self.graph.nodes, self.graph.outputs)
        return Model(self._device, graph, skip_zeros=False)


def _filled(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of real numbers without a 0."""
    return filled(array) if array.dtype.kind == "f" else array
