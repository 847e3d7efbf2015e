"""Makes the nodes of a graph; what is known is computed at once."""

import re
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from ...graph.graph import Graph, Node, dense
from ...graph.recognise import recognised
from .host import HostOperator, Place, each
from .traced import Traced, numpy_dtype


class Builder:
    """Collects the nodes and the constants of a graph.

    An operator whose inputs are all known is computed instead: positions, masks and folded weights
    become constants.

    Parameters
    ----------
    reserved : iterable of str
        Names that the traced program uses.
    """

    def __init__(self, reserved: Sequence[str]) -> None:
        self.inputs: dict[str, Any] = {}
        self.constants: dict[str, Any] = {}
        self.nodes: list[Node] = []
        self.source: fx.Node | None = None
        """The operator of the traced program that is being translated."""
        self._reserved = set(reserved)
        self._used: set[str] = set()
        self._named: dict[int, str] = {}

    # Names

    def unique(self, name: str) -> str:
        """Return a name that no tensor has, and no other operator of the traced program."""
        found, count = name, 2
        while found in self._used or (count > 2 and found in self._reserved):
            found, count = f"{name}_{count}", count + 1
        self._used.add(found)
        return found

    def name(self, tensor: Traced) -> str:
        """Return a tensor's name in the graph; a known one becomes a constant."""
        if tensor.name is not None and not tensor.known:
            return tensor.name
        if id(tensor.value) not in self._named:
            name = self.unique(tensor.name or f"{self.source_name}_constant")
            self._named[id(tensor.value)] = name
            self.constants[name] = tensor.value
        return self._named[id(tensor.value)]

    @property
    def source_name(self) -> str:
        """The name of the operator that is being translated."""
        return self.source.name if self.source is not None else "tensor"

    # Nodes

    def known(self, value: Any, dtype: torch.dtype, name: str | None = None) -> Traced:
        """Return a tensor of known elements: an array, a number, or a sparse array of SciPy."""
        if not hasattr(value, "toarray"):
            value = np.asarray(value, numpy_dtype(dtype))
        return Traced(tuple(map(int, value.shape)), dtype, name, value)

    def emit(
        self,
        operator: str,
        inputs: Sequence[Traced],
        result_shape: Sequence[int],
        result_dtype: torch.dtype,
        /,
        **attributes: Any,
    ) -> Traced:
        """Add a node and return its result, or compute it if all inputs are known."""
        origin = origin_of(self.source) if self.source is not None else ""
        if all(t.known for t in inputs):
            node = Node("", operator, (), attributes, origin)
            found = node.apply(*(dense(t.value) for t in inputs))
            return self.known(found, result_dtype)
        result = self.unique(self.source_name)
        names = tuple(self.name(t) for t in inputs)
        self.nodes.append(Node(result, operator, names, attributes, origin))
        return Traced(tuple(result_shape), result_dtype, result)

    def graph(self, outputs: Sequence[str]) -> Graph:
        """Return the graph of what outputs need, with whole operators where it spells them out."""
        return recognised(Graph(self.inputs, self.constants, tuple(self.nodes), tuple(outputs)))

    # Element by element

    def tensor(self, x: Any, dtype: torch.dtype | None = None) -> Traced:
        """Return a tensor or a number as a tensor of a type (its own by default)."""
        if not isinstance(x, Traced):
            return self.known(x, dtype or torch.result_type(torch.empty(0, dtype=torch.bool), x))
        return x if dtype is None else self.cast(x, dtype)

    def cast(self, x: Traced, dtype: torch.dtype) -> Traced:
        """Return a tensor in another type."""
        if numpy_dtype(dtype) == numpy_dtype(x.dtype):
            return x if dtype == x.dtype else Traced(x.shape, dtype, x.name, x.value)
        return self.emit("cast", [x], x.shape, dtype, dtype=str(numpy_dtype(dtype)))

    def unary(self, operator: str, x: Traced, **attributes: Any) -> Traced:
        """Add an operator of one tensor that keeps shape and type."""
        return self.emit(operator, [x], x.shape, x.dtype, **attributes)

    def binary(
        self, operator: str, a: Any, b: Any, dtype: torch.dtype | None = None, **attributes: Any
    ) -> Traced:
        """Add an operator of two tensors, or a tensor and a number, with broadcasting.

        Both are cast to the common type; ``dtype`` is that of the result, the common one by
        default.
        """
        common = result_type(a, b)
        a, b = self.tensor(a, common), self.tensor(b, common)
        shape = np.broadcast_shapes(a.shape, b.shape)
        return self.emit(operator, [a, b], shape, dtype or common, **attributes)

    def add(self, a: Any, b: Any) -> Traced:
        """Return ``a + b``."""
        return self.binary("add", a, b)

    def mul(self, a: Any, b: Any) -> Traced:
        """Return ``a * b``."""
        return self.binary("mul", a, b)

    def matmul(self, a: Traced, b: Traced) -> Traced:
        """Return ``a @ b`` as `numpy.matmul`."""
        rows, columns = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns)
        return self.emit("matmul", [a, b], shape, a.dtype)

    # Over axes

    def over(self, operator: str, x: Traced, axes: Sequence[int], keepdims: bool = False) -> Traced:
        """Add a sum, mean, max or min over axes."""
        if not axes:
            return x
        shape = [1 if k in axes else n for k, n in enumerate(x.shape) if keepdims or k not in axes]
        return self.emit(operator, [x], shape, x.dtype, axes=tuple(axes), keepdims=keepdims)

    # Arrangement

    def reshape(self, x: Traced, shape: Sequence[int]) -> Traced:
        """Return a tensor in another shape."""
        if tuple(shape) == x.shape:
            return x
        if prod(shape) != prod(x.shape):
            raise ValueError(f"shape {x.shape} does not become {tuple(shape)}")
        return self.emit("reshape", [x], shape, x.dtype, shape=tuple(shape))

    def transpose(self, x: Traced, axes: Sequence[int]) -> Traced:
        """Return a tensor with its dimensions in another order."""
        if list(axes) == list(range(x.ndim)):
            return x
        if hasattr(x.value, "toarray"):
            return self.known(x.value.T, x.dtype, x.name and f"{x.name}.T")
        shape = [x.shape[axis] for axis in axes]
        return self.emit("transpose", [x], shape, x.dtype, axes=tuple(axes))

    def swap(self, x: Traced) -> Traced:
        """Return a tensor with its last two dimensions exchanged."""
        return self.transpose(x, [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])

    def broadcast(self, x: Traced, shape: Sequence[int]) -> Traced:
        """Return a tensor with dimensions of 1 repeated and new ones in front."""
        if tuple(shape) == x.shape:
            return x
        return self.emit("broadcast", [x], shape, x.dtype, shape=tuple(shape))

    def slice(self, x: Traced, axis: int, start: int, stop: int, step: int = 1) -> Traced:
        """Return ``x[start:stop:step]`` along an axis; 0 <= start <= stop <= size."""
        if (start, stop, step) == (0, x.shape[axis], 1):
            return x
        shape = list(x.shape)
        shape[axis] = len(range(start, stop, step))
        attributes = {"axes": (axis,), "starts": (start,), "stops": (stop,), "steps": (step,)}
        return self.emit("slice", [x], shape, x.dtype, **attributes)

    def concat(self, tensors: Sequence[Traced], axis: int) -> Traced:
        """Return tensors one after the other along an axis."""
        tensors = [t for t in tensors if t.shape[axis]] or tensors[:1]
        if len(tensors) == 1:
            return tensors[0]
        shape = list(tensors[0].shape)
        shape[axis] = sum(t.shape[axis] for t in tensors)
        return self.emit("concat", tensors, shape, tensors[0].dtype, axis=axis)

    def pad(self, x: Traced, padding: Sequence[tuple[int, int]], value: float = 0) -> Traced:
        """Return a tensor with elements added (or removed, where negative) at its borders."""
        for axis, (before, after) in enumerate(padding):
            x = self.slice(x, axis, max(0, -before), x.shape[axis] + min(0, after))
        added = tuple((max(0, b), max(0, a)) for b, a in padding)
        if not any(map(any, added)):
            return x
        shape = [n + b + a for n, (b, a) in zip(x.shape, added, strict=True)]
        return self.emit("pad", [x], shape, x.dtype, padding=added, value=value)

    # On the host

    def call(self, node: fx.Node, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Add nodes in which PyTorch computes an operator of the traced program."""
        tensors: list[Traced] = []

        def place(argument: Any) -> Any:
            if isinstance(argument, torch.device):
                return torch.device("cpu")
            if not isinstance(argument, Traced):
                return argument
            tensors.append(argument)
            return Place(len(tensors) - 1, argument.dtype)

        arguments = each(arguments, place)
        keywords = {key: each(value, place) for key, value in keywords.items()}
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if random and all(t.known for t in tensors):
            raise ValueError(f"{origin_of(node)}: random numbers: expected them as an input")

        def result(like: Any, output: int | None) -> Any:
            if not isinstance(like, torch.Tensor):
                return like
            function = HostOperator(str(node.target), arguments, keywords, output)
            return self.emit("call", tensors, shape_of(like), like.dtype, function=function)

        found = node.meta["val"]
        if isinstance(found, list | tuple):
            return tuple(result(like, n) for n, like in enumerate(found))
        return result(found, None)


def result_type(*operands: Any) -> torch.dtype:
    """Return the type in which PyTorch computes with tensors and numbers."""

    def example(x: Any) -> Any:
        return torch.empty(x.shape, dtype=x.dtype, device="meta") if isinstance(x, Traced) else x

    first, *others = map(example, operands)
    if not others:
        return first.dtype
    return torch.result_type(first, others[0])


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return a traced tensor's shape, which must be known."""
    if not all(isinstance(n, int) for n in tensor.shape):
        raise ValueError(
            f"its result's shape {tuple(tensor.shape)} depends on values: expected a fixed shape"
        )
    return tuple(tensor.shape)


def origin_of(node: fx.Node) -> str:
    """Return where an operator is in the model: ``"features.0 (aten.convolution)"``."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    path = re.sub(r"^[LG]\['\w+'\]\.?", "", path)  # the variable that holds the module
    target = node.target
    name = getattr(target, "__name__", str(target))
    if hasattr(target, "overloadpacket"):
        name = str(target.overloadpacket)
    return f"{path} ({name})" if path else name
