"""Programs of graphs."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..program.device import Device, HasDevice
from ..program.filled import filled
from ..program.program import Program
from .emit import emit
from .examples import Sample, example_values
from .graph import Graph, dense
from .lower import Lowering
from .placement import Placement, with_zeros
from .quantize import with_steps
from .rewrite import simplified
from .stages import find_stages

MAX_DENSE_CYCLES = 20_000_000
"""Expected cycles up to which `Model.compare` runs a model without a zero."""


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
        Where each operator of the graph is computed, why, and what it takes.

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
        self._placed = with_zeros(lowering.placed, graph, seen)
        self._without: Model | None = None

    @property
    def placement(self) -> Placement:
        return Placement(self._placed, self)

    def on(self, chip: HasDevice) -> Self:
        other = super().on(chip)
        if self._without is not None:
            other._without = self._without.on(chip)
        return other

    def dense(self) -> "Model":
        """Return the same model without a zero (`Program.dense`); zeros of activations are
        multiplied. It is planned once, and its last run is that of the placement's cycles.
        """
        if self._without is None:
            self._without = self._filled()
        return self._without

    def compare(self, *inputs: Any) -> Placement:
        """Run with these inputs, and without a zero if it is expected to take up to
        `MAX_DENSE_CYCLES`; return the placement, whose cycles are then measured. The golden model
        counts none: with it nothing is run without a zero.

        Raises
        ------
        ValueError, TypeError, ChipError
            As for a call.
        """
        self(*inputs)
        without = self.dense()
        few = sum(without.expected.values()) <= MAX_DENSE_CYCLES
        if self.measured and few and not without.measured:
            without()
        return self.placement

    def _filled(self) -> "Model":
        integers = self._device.config.dtype is NumberFormat.INT8
        inputs, constants = (
            {name: _filled(dense(array), integers=integers) for name, array in arrays.items()}
            for arrays in (self.graph.inputs, self.graph.constants)
        )
        graph = Graph(inputs, constants, self.graph.nodes, self.graph.outputs)
        return Model(self._device, graph, skip_zeros=False)


def _filled(array: NDArray[Any], *, integers: bool) -> NDArray[Any]:
    """Return an array of real numbers without a 0, nor any that integers for it would have."""
    if array.dtype.kind != "f":
        return array
    found = filled(array)
    if not integers:
        return found
    magnitudes = np.abs(found)
    least = magnitudes.max(initial=0) / 2
    return np.copysign(np.maximum(magnitudes, least), found).astype(array.dtype)
