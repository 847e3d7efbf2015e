"""Standard deviations of what rounding to bf16 does to the results of a graph, to first order.

Rounding errors are taken as independent, as in Higham and Mary, "A New Approach to Probabilistic
Rounding Error Analysis" (2019); those of the terms of a sum that the model adds (a residual) may
depend on each other, so their deviations are added. Sums in fp32 are taken as exact.
"""

import numpy as np

from tests.sw.graph.bounds import MOVED, U, errors_of

ROUNDING = U / np.sqrt(3)
"""The deviation of a relative error that may be anything between -u and u."""


def error_deviations(graph):
    """Return the deviation of the error of each output, for the examples of the inputs."""
    return errors_of(
        graph,
        lambda value: np.zeros(value.shape),
        lambda *arguments: np.sqrt(_variance(*arguments)),
    )


def _variance(node, values, errors, result):
    match node.operator:
        case "linear" | "matmul" | "mul":
            # each factor is rounded to bf16
            squares = [value**2 for value in values[:2]]
            wrong = [
                e**2 + square * ROUNDING**2 for e, square in zip(errors, squares, strict=False)
            ]
            return node.apply(wrong[0], squares[1]) + node.apply(squares[0], wrong[1])
        case "add":
            return sum(np.broadcast_to(e, result.shape) for e in errors) ** 2
        case "softmax":
            # d s = s (d x - sum s d x)
            axis, variance = node.attributes["axis"], errors[0] ** 2
            every = (result**2 * variance).sum(axis, keepdims=True)
            own = variance * ((1 - result) ** 2 - result**2)
            return result**2 * (own + every)
        case "layer_norm":
            axes = node.attributes["axes"]
            deviation = np.sqrt(values[0].var(axes, keepdims=True) + node.attributes["epsilon"])
            return (values[1] * errors[0] / deviation) ** 2
    if node.operator == "relu":
        return errors[0] ** 2
    assert node.operator in MOVED, node.operator
    return node.apply(errors[0]) ** 2
