"""Groups operators into stages: one that computes, and those after it that are its epilogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..epilogue import Epilogue
from .graph import Graph, Node, dense

FEATURES: Mapping[str, int] = {
    "linear": -1,
    "matmul": -1,
    "conv": 1,
    "avg_pool": 1,
    "max_pool": 1,
    "embedding": -1,
    "embedding_bag": -1,
}
"""The axis along which an epilogue's numbers may vary; along any single one for other operators."""

COMPUTE = {*FEATURES, "add", "sub", "mul", "sum", "mean", "max", "concat"}
"""Operators that kernels compute, with an epilogue."""

APPLIED = {"relu", "clamp", "hardsigmoid", "fake_quantize"}
"""Operators on one tensor that an epilogue computes."""

MOVED = {"reshape", "transpose", "broadcast", "slice"}
"""Operators that change only how a tensor is seen."""


@dataclass
class Stage:
    """Operators that are computed together.

    ``(head + bias) * scale``, then ReLU, then the clamp; bias and scale are numbers, or arrays
    along the axis ``feature`` of the result. The head is None where a tensor is only read:
    ``inputs`` has it. Where it is ``rounded``, the result has the steps of its `fake_quantize`.
    """

    head: Node | None
    inputs: tuple[str, ...]
    result: str
    shape: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    bias: NDArray[np.float64] | float = 0.0
    scale: NDArray[np.float64] | float = 1.0
    relu: bool = False
    clamp: tuple[float | None, float | None] = (None, None)
    feature: int | None = None
    rounded: bool = False

    @property
    def operator(self) -> str:
        """The head's operator."""
        return "copy" if self.head is None else self.head.operator

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The head's attributes."""
        return {} if self.head is None else self.head.attributes

    @property
    def bounded(self) -> bool:
        """Whether something is applied that is not linear."""
        return self.relu or self.clamp != (None, None)

    @property
    def keeps_zero(self) -> bool:
        """Whether the epilogue makes 0 of 0."""
        clamp = None if self.clamp == (None, None) else self.clamp
        bias, scale = self.bias, self.scale
        return Epilogue(bias=bias, scale=scale, relu=self.relu, clamp=clamp).keeps_zero

    def in_steps(self, unit: Any, step: float) -> None:
        """Change from real numbers to integers: those that the head computes stand for ``unit``
        each, a number or an array along the feature, those of the result for ``step``.
        """
        self.bias = np.rint(self.bias / unit)
        self.scale = self.scale * unit / step
        if np.ndim(unit) > 0 and self.feature is None:
            self.feature = FEATURES[self.operator] % len(self.shape)
        low, high = (None if b is None else float(np.rint(b / step)) for b in self.clamp)
        self.clamp = low, high

    def epilogue(self, rank: int, mode: int | None, *, narrow: bool) -> Epilogue | None:
        """Return the epilogue of a result of ``rank`` modes, the feature's being ``mode``; None if
        it would do nothing.
        """

        def placed(number: NDArray[np.float64] | float, neutral: float) -> Any:
            if np.ndim(number) == 0:
                return None if number == neutral else float(number)
            if not np.any(np.asarray(number) != neutral):
                return None
            assert mode is not None
            return np.reshape(number, [-1 if m == mode else 1 for m in range(rank)])

        bias, scale = placed(self.bias, 0.0), placed(self.scale, 1.0)
        clamp = None if self.clamp == (None, None) else self.clamp
        if bias is None and scale is None and not self.bounded and not narrow:
            return None
        out = "narrow" if narrow else "wide"
        return Epilogue(bias=bias, scale=scale, relu=self.relu, clamp=clamp, out=out)


def find_stages(graph: Graph, shapes: Mapping[str, tuple[int, ...]], real: set[str]) -> list[Stage]:
    """Return the stages of a graph, in an order in which they can run.

    Parameters
    ----------
    shapes : mapping
        Of all results.
    real : set of str
        The names of floating-point tensors; stages of others have one node.
    """
    uses = graph.uses()
    taken: set[str] = set()
    stages = []
    for node in graph.nodes:
        if node.result in taken:
            continue
        floats = node.result in real
        stage = _started(node, graph, shapes) if floats else None
        if stage is None:
            stage = Stage(node, node.inputs, node.result, shapes[node.result], [node])
        elif floats:
            while True:
                after = uses.get(stage.result, [])
                if len(after) != 1 or stage.result in graph.outputs:
                    break
                if not _absorb(stage, after[0], graph.constants, shapes):
                    break
                taken.add(after[0].result)
        stages.append(stage)
    return stages


def _started(node: Node, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Stage | None:
    """Return a stage that may take more operators; None if this one is no such."""
    shape = shapes[node.result]
    variable = [name for name in node.inputs if name not in graph.constants]
    if node.operator in APPLIED or (node.operator in ("add", "mul") and len(variable) == 1):
        source = variable[0]
        read = Stage(None, (source,), source, shapes[source])
        if _absorb(read, node, graph.constants, shapes):
            return read
    if node.operator not in COMPUTE:
        return None
    found = Stage(node, node.inputs, node.result, shape, [node])
    if node.operator in ("linear", "conv") and len(node.inputs) == 3:
        bias = graph.constants.get(node.inputs[2])
        axis = FEATURES[node.operator] % len(shape)
        if bias is not None:
            found.inputs = node.inputs[:2]
            numbers = np.asarray(dense(bias), np.float64)
            found.bias = float(numbers.reshape(())) if numbers.size == 1 else numbers
            found.feature = None if numbers.size == 1 else axis
    return found


def _absorb(
    stage: Stage, node: Node, constants: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    """Add an operator to a stage; return whether that was possible."""
    if stage.rounded:
        return False
    averaged = stage.operator == "avg_pool"  # its scale comes first
    match node.operator:
        case "relu":
            if stage.clamp == (None, None):
                stage.relu = True
            else:
                stage.clamp = _limited(stage.clamp, 0.0, None)
        case "clamp":
            stage.clamp = _limited(
                stage.clamp, node.attributes.get("low"), node.attributes.get("high")
            )
        case "fake_quantize":
            scale, low, high = (node.attributes[key] for key in ("scale", "low", "high"))
            stage.clamp = _limited(stage.clamp, scale * low, scale * high)
            stage.rounded = True
        case "hardsigmoid":
            if stage.bounded or averaged or not np.all(np.asarray(stage.scale)):
                return False
            slope = node.attributes.get("slope", 1 / 6)
            _scale(stage, slope)
            _shift(stage, node.attributes.get("offset", 0.5))
            stage.clamp = (0.0, 1.0)
        case "add" | "mul":
            array = next((constants[name] for name in node.inputs if name in constants), None)
            if array is None or shapes[node.result] != stage.shape or len(set(node.inputs)) < 2:
                return False
            found = _along(stage, np.asarray(dense(array), np.float64))
            if found is None:
                return False
            number, axis = found
            if node.operator == "mul":
                positive = bool(np.all(np.asarray(number) > 0))
                if stage.clamp != (None, None) or (stage.relu and not positive):
                    return False
                _scale(stage, number)
            elif stage.bounded or averaged or not _shift(stage, number):
                return False
            stage.feature = axis
        case _:
            return False
    stage.nodes.append(node)
    stage.result = node.result
    return True


def _along(stage: Stage, array: NDArray[np.float64]) -> tuple[Any, int | None] | None:
    """Return a constant as a number or as an array along the stage's feature, and that axis."""
    if array.size == 1:
        return float(array.reshape(())), stage.feature
    rank = len(stage.shape)
    padded = (1,) * (rank - array.ndim) + array.shape
    along = [axis for axis, size in enumerate(padded) if size != 1]
    if len(along) != 1 or stage.operator == "concat":  # parts are written one by one
        return None
    allowed = FEATURES.get(stage.operator)
    if allowed is not None and along[0] != allowed % rank:
        return None
    if stage.feature not in (None, along[0]):
        return None
    return array.reshape(-1), along[0]


def _scale(stage: Stage, number: Any) -> None:
    stage.scale = stage.scale * number


def _shift(stage: Stage, number: Any) -> bool:
    """Add a number after the scale; return False if the scale has zeros."""
    if not np.all(np.asarray(stage.scale)):
        return False
    stage.bias = stage.bias + number / stage.scale
    return True


def _limited(
    clamp: tuple[float | None, float | None], low: float | None, high: float | None
) -> tuple[float | None, float | None]:
    """Return a clamp followed by another one."""
    limits: Sequence[float | None] = (low, high)
    found = [
        None if old is None and new is None else float(np.clip(_or(old, new), low, high))
        for old, new in zip(clamp, limits, strict=True)
    ]
    return found[0], found[1]


def _or(old: float | None, new: float | None) -> float:
    value = new if old is None else old
    assert value is not None
    return value
