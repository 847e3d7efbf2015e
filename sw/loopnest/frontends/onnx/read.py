"""Reads a file, binds its inputs, and converts its nodes one after the other."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from ...formats.sources import dense_array
from ...graph.graph import Graph
from ...graph.recognise import recognised
from ..extras import require
from . import arrange, elementwise, products, quantized, windows
from .builder import Builder, Value
from .node import CONVERTERS, OnnxNode

__all__ = ["arrange", "elementwise", "from_onnx", "products", "quantized", "windows"]

MIN_OPSET, MAX_OPSET = 7, 23

EXTRA = "onnx"


def from_onnx(source: Any, inputs: Mapping[str, Any] | Sequence[Any] | None = None) -> Graph:
    """Return the graph of an ONNX model.

    Constants are folded, wherever they are, and so is everything that depends on shapes only;
    operators that are spelled out in simpler ones are recognised.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        A model with operators of versions 7 to 23.
    inputs : mapping of str to array, or sequence of arrays, optional
        An example of each input, in the types of the file; their shapes bind its dynamic
        dimensions. Without it, all dimensions have to be numbers, and the examples are 0.

    Returns
    -------
    Graph
        Its inputs, outputs and constants have the names of the file.

    Raises
    ------
    ValueError
        For a damaged file, an operator that is not supported (with its place), a dimension that is
        not bound, and inputs of another name, shape or type; before anything else is done.
    ModuleNotFoundError
        Without the package ``onnx``.
    """
    model, file = _load(source)
    opset = _opset(model, file)
    model = _expanded(model, file)
    constants = dict(_initializers(model.graph, file))
    examples = _bind(model, constants, inputs, file)
    builder = Builder(examples)
    scope: dict[str, Value] = {name: Value(name, array, False) for name, array in examples.items()}
    for name, content in constants.items():
        if name not in scope:
            scope[name] = builder.known(content, name)
    outputs = _convert(builder, model.graph, scope, opset, file)
    names = [output.name for output in model.graph.output]
    return recognised(builder.finish(list(zip(names, outputs, strict=True))))


def _load(source: Any) -> tuple[Any, str]:
    """Return the model, and what to call it."""
    onnx = require("onnx", EXTRA)
    from google.protobuf.message import DecodeError

    if isinstance(source, onnx.ModelProto):
        return source, "the model"
    if isinstance(source, bytes):
        file = "the bytes"
    else:
        path = Path(source)
        file = path.name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    try:
        if isinstance(source, bytes):
            model = onnx.load_model_from_string(source)
        else:
            model = onnx.load(path)
    except DecodeError as error:
        raise ValueError(f"{file}: not an ONNX model, or a damaged one ({error})") from None
    except (onnx.checker.ValidationError, FileNotFoundError) as error:
        raise ValueError(f"{file}: its external data cannot be read: {error}") from None
    return model, file


def _opset(model: Any, file: str) -> int:
    """Return the version of the operators."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset is None or not model.graph.output:
        raise ValueError(f"{file}: no operators or no outputs: expected an ONNX model")
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise ValueError(f"{file}: opset {opset}: expected {MIN_OPSET} to {MAX_OPSET}")
    return int(opset)


def _expanded(model: Any, file: str) -> Any:
    """Return the model checked, with its own functions inlined, and those of ONNX that have no
    converter.

    Raises
    ------
    ValueError
        If it is no valid model, or has an operator that is neither converted nor a function.
    """
    import onnx
    from onnx import inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    unknown = dict(_unknown(model.graph, file))
    if unknown:
        model = _with_defaults(model, unknown)
        chosen = [("", operator) for operator in unknown]
        # a function that cannot be inlined leaves its operator, which is refused below
        with suppress(RuntimeError):
            model = inliner.inline_selected_functions(
                model, chosen, exclude=False, inline_schema_functions=True
            )
        for operator, place in _unknown(model.graph, file):
            raise ValueError(f"{place}: the operator {operator} is not supported")
    model = _with_shapes(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{file}: not a valid model: {reason}") from None
    return model


def _with_shapes(model: Any) -> Any:
    """Return a model whose outputs have shapes, which the check asks for, and files may lack: those
    of the outputs follow from the operators.
    """
    import onnx

    if all(output.type.tensor_type.HasField("shape") for output in model.graph.output):
        return model
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for output in found.graph.output:
        kind = output.type.tensor_type
        kind.elem_type = kind.elem_type or onnx.TensorProto.FLOAT
        kind.shape.SetInParent()
    return found


def _with_defaults(model: Any, operators: Container[str]) -> Any:
    """Return a model with the default values of attributes written out, which inlining needs."""
    import onnx

    versions = {entry.domain: entry.version for entry in model.opset_import}
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for node in found.graph.node:
        if node.op_type not in operators or not onnx.defs.has(node.op_type, node.domain):
            continue
        schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
        given = {attribute.name for attribute in node.attribute}
        for name, attribute in schema.attributes.items():
            if name not in given and attribute.default_value.type:
                node.attribute.append(attribute.default_value)
    return found


def _unknown(graph: Any, file: str) -> Iterator[tuple[str, str]]:
    """Yield the operators without a converter, and where they are."""
    for at, node in enumerate(graph.node):
        if node.op_type == "If" and not node.domain:
            for attribute in node.attribute:
                yield from _unknown(attribute.g, file)
        elif _converter(node) not in CONVERTERS:
            yield node.op_type, _place(at, node, file)


def _converter(node: Any) -> str:
    """Return the name of a node's operator in the table of converters."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _place(at: int, node: Any, file: str) -> str:
    """Return where a node is, for messages."""
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return (
        f"{file}, node {at} {node.name!r} ({kind})" if node.name else f"{file}, node {at} ({kind})"
    )


def _initializers(graph: Any, file: str) -> Iterator[tuple[str, Any]]:
    """Yield the constants of a graph.

    Raises
    ------
    ValueError
        For numbers that do not fit their shape or type.
    """
    from onnx import TensorProto, numpy_helper

    sparse = [(tensor.values.name, tensor) for tensor in graph.sparse_initializer]
    for name, tensor in [*((tensor.name, tensor) for tensor in graph.initializer), *sparse]:
        convert = numpy_helper.to_array if isinstance(tensor, TensorProto) else sparse_array
        try:
            yield name, convert(tensor)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: constant {name!r}: {error}") from None


def sparse_array(tensor: Any) -> Any:
    """Return a sparse tensor of ONNX as an array of SciPy: CSR of 2 dimensions, otherwise COO.

    Raises
    ------
    ValueError
        If its indices are outside the tensor, or not as many as its values.
    """
    from onnx import numpy_helper

    shape = tuple(tensor.dims)
    values = numpy_helper.to_array(tensor.values).reshape(-1)
    indices = numpy_helper.to_array(tensor.indices)
    if len(indices) != len(values):
        raise ValueError(f"{len(indices)} indices for {len(values)} values: expected as many")
    if indices.ndim == 1:
        count = int(np.prod(shape))
        if len(indices) and not 0 <= indices.min() <= indices.max() < count:
            raise ValueError(f"index {indices.max()}: expected less than {count}")
        indices = np.stack(np.unravel_index(indices, shape), axis=-1)
    coordinates = tuple(indices.T) if len(indices) else tuple(np.zeros((len(shape), 0), np.int64))
    array = sp.coo_array((values, coordinates), shape=shape)
    return array.tocsr() if len(shape) == 2 else array


def _bind(
    model: Any, constants: Mapping[str, Any], inputs: Any, file: str
) -> dict[str, np.ndarray]:
    """Return the examples by name, checked against what the file declares."""
    declared = {entry.name: entry for entry in model.graph.input}
    needed = [name for name in declared if name not in constants]
    if inputs is None:
        return {name: _zeros(declared[name], file) for name in needed}
    if not isinstance(inputs, Mapping):
        inputs = (
            list(inputs)
            if isinstance(inputs, Iterable) and not hasattr(inputs, "shape")
            else [inputs]
        )
        if len(inputs) != len(needed):
            raise ValueError(
                f"{file}: {len(inputs)} inputs: expected {len(needed)} ({', '.join(needed)})"
            )
        inputs = dict(zip(needed, inputs, strict=True))
    for name in inputs:
        if name not in declared:
            raise ValueError(f"{file}: no input {name!r}: expected {', '.join(declared)}")
    for name in needed:
        if name not in inputs:
            raise ValueError(f"{file}: input {name!r} is missing: expected {', '.join(needed)}")
    bound: dict[str, tuple[int, str]] = {}
    return {
        name: _checked(declared[name], inputs[name], bound, file)
        for name in declared
        if name in inputs
    }


def _type(declared: Any, file: str) -> Any:
    """Return the tensor type of an input."""
    if not declared.type.HasField("tensor_type"):
        kind = declared.type.WhichOneof("value") or "no type"
        raise ValueError(f"{file}: input {declared.name!r} ({kind}): expected a tensor")
    return declared.type.tensor_type


def _zeros(declared: Any, file: str) -> np.ndarray:
    """Return an example of an input whose dimensions are numbers."""
    tensor = _type(declared, file)
    for at, dimension in enumerate(tensor.shape.dim):
        if dimension.dim_value <= 0:
            name = f" ({dimension.dim_param})" if dimension.dim_param else ""
            raise ValueError(
                f"{file}: input {declared.name!r}: dimension {at}{name} is not bound: expected an "
                "example of this input"
            )
    shape = [dimension.dim_value for dimension in tensor.shape.dim]
    return np.zeros(shape, elementwise.onnx_dtype(tensor.elem_type))


def _checked(
    declared: Any, example: Any, bound: dict[str, tuple[int, str]], file: str
) -> np.ndarray:
    """Return an example as an array.

    Parameters
    ----------
    bound : dict
        Sizes of the dimensions with names so far, and the inputs that bind them: grows.
    """
    what = f"{file}: input {declared.name!r}"
    tensor = _type(declared, file)
    dtype = elementwise.onnx_dtype(tensor.elem_type)
    plain = not hasattr(example, "dtype")
    array = dense_array(example)
    if plain and np.can_cast(np.min_scalar_type(array), dtype, "same_kind"):
        array = array.astype(dtype)
    if array.dtype != dtype:
        raise ValueError(f"{what}: {array.dtype}: expected {dtype}")
    if not tensor.HasField("shape"):
        return array
    sizes = [d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim]
    expected = "(" + ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "") + ")"
    if len(sizes) != array.ndim:
        raise ValueError(f"{what}: shape {array.shape}: expected {expected}")
    for size, n in zip(sizes, array.shape, strict=True):
        if isinstance(size, int):
            if size != n:
                raise ValueError(f"{what}: shape {array.shape}: expected {expected}")
        elif size != "?":
            before, by = bound.setdefault(size, (n, declared.name))
            if before != n:
                raise ValueError(
                    f"{what}: shape {array.shape}: expected {expected} with {size} = {before}, as "
                    f"in {by!r}"
                )
    return array


def _convert(
    builder: Builder, graph: Any, scope: dict[str, Value], opset: int, file: str
) -> list[Value]:
    """Convert the nodes of a graph; return its outputs.

    Parameters
    ----------
    scope : dict
        The tensors by their names: grows, and loses those that no later node uses.
    """
    last = {name: at for at, node in enumerate(graph.node) for name in _used(node)}
    kept = {output.name for output in graph.output}
    for at, proto in enumerate(graph.node):
        place = _place(at, proto, file)
        origin = f"{proto.name or f'node {at}'} ({proto.op_type})"
        builder.at(origin, next(filter(None, proto.output), proto.name))
        try:
            if proto.op_type == "If":
                found = _branch(builder, proto, scope, opset, file)
            else:
                node = OnnxNode(
                    proto.op_type,
                    tuple(scope[name] if name else None for name in proto.input),
                    tuple(proto.output),
                    {a.name: _attribute(a) for a in proto.attribute},
                    opset,
                )
                made = CONVERTERS[_converter(proto)](builder, node)
                found = [made] if isinstance(made, Value) else list(made)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise ValueError(f"{place}: {error}") from error
        for name, value in zip(proto.output, found, strict=False):
            if name:
                scope[name] = builder.name(value, name)
        for name in _used(proto):
            if last[name] == at and name not in kept:
                scope.pop(name, None)
    return [scope[output.name] for output in graph.output]


def _used(node: Any) -> set[str]:
    """Return the names that a node uses, with those that its branches use."""
    names = set(filter(None, node.input))
    for attribute in node.attribute:
        for inner in attribute.g.node:
            names |= _used(inner)
        names |= {output.name for output in attribute.g.output}
    return names


def _branch(
    builder: Builder, node: Any, scope: Mapping[str, Value], opset: int, file: str
) -> list[Value]:
    """Convert the branch of an ``If`` that its condition takes."""
    condition = scope[node.input[0]]
    if not condition.known:
        raise ValueError(
            f"the condition {condition.name!r} depends on the model's inputs: expected a constant"
        )
    taken = "then_branch" if condition.scalar else "else_branch"
    graph = next(a.g for a in node.attribute if a.name == taken)
    inner = dict(scope)
    for name, content in _initializers(graph, file):
        inner[name] = builder.known(content, name)
    return _convert(builder, graph, inner, opset, file)


def _attribute(attribute: Any) -> Any:
    """Return the value of an attribute: numbers, text, arrays."""
    from onnx import AttributeProto, helper, numpy_helper

    value = helper.get_attribute_value(attribute)
    match attribute.type:
        case AttributeProto.STRING:
            return value.decode()
        case AttributeProto.TENSOR:
            return numpy_helper.to_array(value)
        case AttributeProto.SPARSE_TENSOR:
            return sparse_array(value)
        case AttributeProto.INTS | AttributeProto.FLOATS:
            return tuple(value)
        case _:
            return value
