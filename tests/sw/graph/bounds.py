"""Bounds of what rounding to bf16 and sums in fp32 can do to the results of a graph.

The rules are those of docs/models.md, applied to each operator: with a bound of each input's error,
a bound of the result's.
"""

import numpy as np

from loopnest.graph.graph import dense

U, E = 2.0**-8, 2.0**-23
"""Relative errors of rounding to bf16, and of an fp32 addition."""

MOVED = {"reshape", "transpose", "slice", "broadcast", "concat", "pad", "max_pool"}
"""Operators that move errors as they move values."""


def errors_of(graph, of_input, of_node):
    """Return an error of each output, for the examples of the inputs.

    Parameters
    ----------
    of_input : function
        Returns that of an input, given its value.
    of_node : function
        Returns that of a node's result, given the node, its inputs' values and errors, and the
        result's value.
    """
    values = {name: dense(array).astype(np.float64) for name, array in graph.inputs.items()}
    errors = {name: of_input(value) for name, value in values.items()}
    for name, array in graph.constants.items():
        values[name] = dense(array).astype(np.float64)
        errors[name] = np.zeros(values[name].shape)
    for node in graph.nodes:
        own, wrong = ([known[n] for n in node.inputs] for known in (values, errors))
        values[node.result] = node.apply(*own)
        errors[node.result] = of_node(node, own, wrong, values[node.result])
    return {name: errors[name] for name in graph.outputs}


def error_bounds(graph):
    """Return a bound of the error of each output, for the examples of the inputs."""
    return errors_of(graph, lambda value: U * np.abs(value), _bound)


def _bound(node, values, errors, result):
    magnitudes = [np.abs(value) for value in values]
    most = [m + e for m, e in zip(magnitudes, errors, strict=True)]
    match node.operator:
        case "linear" | "matmul" | "conv" | "mul":
            # of a bias, errors of sums alone
            factors = slice(0, 2)
            exact, rounded = (node.apply(*arrays[factors]) for arrays in (magnitudes, most))
            terms = 1 if node.operator == "mul" else _terms(node, values)
            rounded = rounded * (1 + U) ** 2
            bias = np.max(magnitudes[2]) if len(values) == 3 else 0.0
            return rounded - exact + (terms + 2) * E * (rounded + bias)
        case "add" | "sub":
            return sum(
                np.broadcast_to(e + E * m, result.shape) for e, m in zip(errors, most, strict=True)
            )
        case "mean" | "sum" | "avg_pool":
            terms = values[0].size / result.size
            return node.apply(errors[0]) + terms * E * node.apply(most[0])
    if node.operator in ("relu", "clamp"):
        return errors[0]
    assert node.operator in MOVED, node.operator
    return node.apply(*errors)


def _terms(node, values):
    weights = values[1]
    return values[0].shape[-1] if node.operator == "matmul" else weights[0].size
