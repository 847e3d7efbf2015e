"""Exports modules and translates exported programs to graphs."""

import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from ...graph.graph import Graph

# these fill the table of translations
from . import arrangement, elementwise, products, reductions, windows  # noqa: F401
from .builder import Builder, origin_of, shape_of
from .modules import evaluated
from .shortcuts import spelled_out
from .table import TRANSLATIONS, translate
from .traced import Traced, as_array

KEPT = (
    "aten.embedding_bag.padding_idx",
    "aten.gelu.default",
    "aten.hardsigmoid.default",
    "aten.hardswish.default",
    "aten.layer_norm.default",
    "aten.leaky_relu.default",
    "aten.linear.default",
    "aten.matmul.default",
    "aten.rms_norm.default",
    "aten.roll.default",
    "aten.scaled_dot_product_attention.default",
    "aten.silu.default",
    "aten.stack.default",
    "aten.upsample_nearest1d.vec",
    "aten.upsample_nearest2d.vec",
)
"""Operators that graphs have, or that PyTorch would decompose to more than is needed."""

FACTORIES = ("aten.arange.default", "aten.arange.start", "aten.arange.start_step")

CHECKS = ("_assert", "_guards", "_check_errors", "sym_constrain", "constrain_range")
"""Words in the names of operators that check something and compute nothing."""


def from_torch(
    model: torch.nn.Module | torch.export.ExportedProgram,
    inputs: Sequence[Any] | Mapping[str, Any] | None = None,
) -> Graph:
    """Return the graph of a module or an exported program.

    A module is exported as it works in evaluation; the module itself does not change. Parameters,
    buffers and all that is computed of them become constants, sparse ones stay sparse. An operator
    that graphs do not have becomes a `call`, in which PyTorch computes it on the host. 16-bit
    floats are float32 in the graph.

    Parameters
    ----------
    model : torch.nn.Module or torch.export.ExportedProgram
    inputs : tuple, or mapping of str to value
        Example inputs, as for `torch.export.export`: those of the call in their order, or by name.
        Tensors in lists, tuples and dictionaries are inputs of the graph in the order in which
        PyTorch flattens them; anything that is not a tensor becomes part of the graph. An exported
        program has its own examples; examples given bind its dynamic dimensions.

    Returns
    -------
    Graph
        Its inputs have the names of the parameters of ``forward``.

    Raises
    ------
    TypeError
        If ``inputs`` is no tuple or mapping, or a module has none.
    ValueError
        If `torch.export` cannot export the module, its shapes are dynamic, or running it changes
        a buffer or an input.
    """
    with _quiet():
        stand_ins: dict[int, torch.Tensor] = {}
        if isinstance(model, torch.nn.Module):
            model, stand_ins = evaluated(model)
            program = _exported(model, inputs)
        elif isinstance(model, torch.export.ExportedProgram):
            program = model if inputs is None else _exported(model.module(), inputs)
        else:
            raise TypeError(f"{type(model).__name__}: expected a Module or an ExportedProgram")
        _check_fixed(program)
        if not _translatable(program):
            table = torch.export.default_decompositions()
            for name in KEPT:
                table.pop(_overload(name), None)
            # a union of both would lose the composite operators of the table
            table.update(spelled_out())
            program = program.run_decompositions(table)
    return _translated(program, stand_ins)


def _translatable(program: torch.export.ExportedProgram) -> bool:
    """Return whether all operators of a program have translations, or are made of nothing.

    Then it is not decomposed, which takes as long as the export.
    """
    return all(
        str(node.target) in TRANSLATIONS
        or node.target is operator.getitem
        or any(word in str(node.target) for word in CHECKS)
        or (str(node.target) in FACTORIES and not node.all_input_nodes)
        for node in program.graph.nodes
        if node.op not in ("placeholder", "output")
    )


def _overload(name: str) -> Any:
    _, packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)


def _exported(model: torch.nn.Module, inputs: Any) -> torch.export.ExportedProgram:
    """Export a module."""
    if not isinstance(inputs, tuple | list | Mapping):
        raise TypeError(
            f"inputs of type {type(inputs).__name__}: expected a tuple of example inputs, or a "
            "dictionary of them by name, as for torch.export"
        )

    def as_input(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, torch.Tensor) and value.layout != torch.strided:
            raise ValueError(
                f"a sparse input of shape {tuple(value.shape)}: expected dense inputs, and sparse "
                "tensors as buffers or parameters"
            )
        return value

    given = pytree.tree_map(as_input, inputs)
    arguments = () if isinstance(given, Mapping) else tuple(given)
    keywords = dict(given) if isinstance(given, Mapping) else None
    try:
        with torch.no_grad():
            return torch.export.export(model, arguments, keywords)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"torch.export refuses {type(model).__name__}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Export without the shortcuts of attention, and warnings on PyTorch's own code."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*_flat_weights.*")
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*treespec.*")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _check_fixed(program: torch.export.ExportedProgram) -> None:
    """Check that all inputs have fixed shapes."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or not isinstance(value, torch.Tensor):
            continue
        free = [k for k, n in enumerate(value.shape) if not isinstance(n, int)]
        if free:
            raise ValueError(
                f"input {node.name}: dimension {free[0]} is dynamic: expected example inputs that "
                "bind it"
            )


def _translated(
    program: torch.export.ExportedProgram, stand_ins: Mapping[int, torch.Tensor]
) -> Graph:
    """Return the graph of a program of core ATen operators."""
    b = Builder([node.name for node in program.graph.nodes])
    values = _placeholders(b, program, stand_ins)
    outputs: Any = ()
    for node in program.graph.nodes:
        if node.op == "output":
            _check_pure(program)
            outputs = fx.map_arg(node.args[0], lambda n: _Found(values[n]))
        elif node.op == "call_function":
            b.source = node
            values[node] = _result(b, node, values)
        elif node.op == "get_attr":
            raise ValueError(f"{node.target}: control flow: expected none")
    found = [f.value for f in pytree.tree_leaves(outputs) if isinstance(f, _Found)]
    return b.graph([b.name(t) for t in found if t is not None])


class _Found:
    """A value that PyTorch's functions on nested arguments take as one."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _result(b: Builder, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """Return what an operator of the program computes."""
    if node.target is operator.getitem:
        of, index = node.args
        found = values[of]  # type: ignore[index]
        return None if found is None else found[index]
    checks = node.args[1] if node.target is torch.ops.higher_order.with_effects else node.target
    if any(word in str(checks) for word in CHECKS):
        return None
    if not isinstance(node.target, torch._ops.OpOverload):
        raise ValueError(
            f"{origin_of(node)}: expected an operator on tensors, without control flow"
        )

    def argument(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return values[value]
        if isinstance(value, list | tuple):
            return [argument(v) for v in value]
        return value

    try:
        arguments = [argument(value) for value in node.args]
        keywords = {key: argument(value) for key, value in node.kwargs.items()}
        return translate(b, node, tuple(arguments), keywords)
    except (ValueError, TypeError) as error:
        origin = origin_of(node)
        if str(error).startswith(origin):
            raise
        raise ValueError(f"{origin}: {error}") from error


def _placeholders(
    b: Builder, program: torch.export.ExportedProgram, stand_ins: Mapping[int, torch.Tensor]
) -> dict[fx.Node, Any]:
    """Return inputs and constants by their nodes."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    examples = iter(_examples(program))
    held: dict[int, Traced] = {}
    values: dict[fx.Node, Any] = {}
    for spec in program.graph_signature.input_specs:
        node = nodes[spec.arg.name]
        if spec.kind == InputKind.USER_INPUT:
            example = next(examples)
            if not isinstance(node.meta.get("val"), torch.Tensor):
                values[node] = getattr(spec.arg, "value", None)
                continue
            array = as_array(example)
            name = b.unique(node.name)
            b.inputs[name] = np.asarray(array)
            values[node] = Traced(shape_of(example), example.dtype, name)
            continue
        if spec.kind == InputKind.TOKEN:  # of operators that check
            values[node] = None
            continue
        if spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            raise ValueError(f"{spec.target}: expected tensors as parameters and buffers")
        target = str(spec.target)
        tensor = program.state_dict.get(target)
        tensor = program.constants[target] if tensor is None else tensor
        tensor = stand_ins.get(tensor.untyped_storage().data_ptr(), tensor)
        if id(tensor) not in held:
            held[id(tensor)] = b.known(as_array(tensor), tensor.dtype, target)
        values[node] = held[id(tensor)]
    return values


def _examples(program: torch.export.ExportedProgram) -> list[Any]:
    """Return the example inputs of a program, flat."""
    if program.example_inputs is None:
        raise ValueError("the exported program has no example inputs: expected them as inputs")
    return pytree.tree_leaves(program.example_inputs)


def _check_pure(program: torch.export.ExportedProgram) -> None:
    """Check that the program changes nothing."""
    for spec in program.graph_signature.output_specs:
        if spec.kind not in (OutputKind.USER_OUTPUT, OutputKind.TOKEN):
            what = "an input" if spec.kind == OutputKind.USER_INPUT_MUTATION else "a buffer"
            raise ValueError(
                f"{spec.target}: the model changes {what} as it runs: expected one that returns "
                "its state (or, if that is batch normalisation while training, model.eval())"
            )
