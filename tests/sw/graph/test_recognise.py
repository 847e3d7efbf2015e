"""Activations and normalisations that are spelled out."""

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any

import numpy as np
import pytest

from loopnest.graph.graph import Graph, Node
from loopnest.graph.recognise import recognised

SHAPE = (3, 8)


def graph_of(steps: Sequence[Any], dtype: Any = np.float32) -> Graph:
    """Return a graph of steps: (operator, inputs, attributes), where inputs are ``x``, numbers,
    arrays, or the results of steps by their places, from the back if negative.
    """
    constants: dict[str, Any] = {}
    nodes = []
    for at, (operator, given, *rest) in enumerate(steps):
        inputs = []
        for one in given:
            if isinstance(one, str):
                inputs.append(one)
            elif isinstance(one, int):
                inputs.append(f"t{one % at}")
            else:
                constants[f"c{len(constants)}"] = np.asarray(one, dtype)
                inputs.append(f"c{len(constants) - 1}")
        nodes.append(Node(f"t{at}", operator, tuple(inputs), rest[0] if rest else {}, f"step {at}"))
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(dtype) * 3
    return Graph({"x": x}, constants, tuple(nodes), (nodes[-1].result,))


def check(steps: Sequence[Any], dtype: Any = np.float32, tolerance: float = 1e-5) -> Graph:
    graph = graph_of(steps, dtype)
    found = recognised(graph)
    (expected,), (value,) = graph.evaluate().values(), found.evaluate().values()
    assert value.dtype == expected.dtype
    np.testing.assert_allclose(value, expected, tolerance, tolerance)
    return found


SIX = {"low": 0.0, "high": 6.0}
ONE = {"low": 0.0, "high": 1.0}

ACTIVATIONS = {
    "hardswish": [
        [("add", ("x", 3.0)), ("clamp", (-1,), SIX), ("mul", ("x", -1)), ("mul", (-1, 1 / 6))],
        [("add", (3.0, "x")), ("clamp", (-1,), SIX), ("mul", (-1, 1 / 6)), ("mul", (-1, "x"))],
        [("add", ("x", 3.0)), ("clamp", (-1,), SIX), ("div", (-1, 6.0)), ("mul", ("x", -1))],
        [("mul", ("x", 1 / 6)), ("add", (-1, 0.5)), ("clamp", (-1,), ONE), ("mul", ("x", -1))],
        [("mul", ("x", 1 / 6)), ("add", ("x", 3.0)), ("clamp", (-1,), SIX), ("mul", (0, -1))],
        [("hardsigmoid", ("x",)), ("mul", ("x", -1))],
        [("sub", ("x", [-3.0])), ("clamp", (-1,), SIX), ("mul", ("x", -1)), ("div", (-1, [6.0]))],
    ],
    "hardsigmoid": [
        [("add", ("x", 3.0)), ("clamp", (-1,), SIX), ("div", (-1, 6.0))],
        [("mul", ("x", 0.2)), ("add", (-1, 0.5)), ("clamp", (-1,), ONE)],
    ],
    "silu": [
        [("sigmoid", ("x",)), ("mul", ("x", -1))],
        [("mul", ("x", -1.0)), ("exp", (-1,)), ("add", (-1, 1.0)), ("div", ("x", -1))],
        [("mul", ("x", -1.0)), ("exp", (-1,)), ("add", (1.0, -1)), ("reciprocal", (-1,)),
         ("mul", (-1, "x"))],
    ],
    "gelu": [
        [("mul", ("x", sqrt(0.5))), ("erf", (-1,)), ("add", (-1, 1.0)), ("mul", (0.5, -1)),
         ("mul", ("x", -1))],
        [("div", ("x", sqrt(2))), ("erf", (-1,)), ("add", (1.0, -1)), ("mul", ("x", -1)),
         ("mul", (-1, 0.5))],
        [("mul", ("x", 0.5)), ("mul", ("x", sqrt(0.5))), ("erf", (-1,)), ("mul", (-1, 0)),
         ("add", (0, -1))],
        [("pow", ("x", 3.0)), ("mul", (-1, 0.044715)), ("add", ("x", -1)),
         ("mul", (-1, sqrt(2 / pi))), ("tanh", (-1,)), ("add", (-1, 1.0)), ("mul", ("x", 0.5)),
         ("mul", (-1, 5))],
        [("mul", ("x", "x")), ("mul", (-1, 0.044715)), ("add", (-1, 1.0)), ("mul", ("x", -1)),
         ("mul", (-1, sqrt(2 / pi))), ("tanh", (-1,)), ("add", (1.0, -1)), ("mul", ("x", -1)),
         ("mul", (0.5, -1))],
    ],
}  # fmt: skip

CASES = [
    pytest.param(name, steps, id=f"{name} {n}")
    for name, spellings in ACTIVATIONS.items()
    for n, steps in enumerate(spellings)
]


@pytest.mark.parametrize("name, steps", CASES)
def test_activations_are_recognised(name: str, steps: Any) -> None:
    found = check(steps)
    assert [node.operator for node in found.nodes] == [name]
    assert found.nodes[0].origin == f"step {len(steps) - 1}" and not found.constants


@pytest.mark.parametrize("name, steps", CASES)
def test_constants_of_half_precision_are_recognised(name: str, steps: Any) -> None:
    found = check(steps, np.float16, 2e-2)
    assert [node.operator for node in found.nodes] == [name]


def test_a_slope_and_an_offset_are_kept() -> None:
    found = check([("mul", ("x", 0.2)), ("add", (-1, 0.4)), ("clamp", (-1,), ONE)])
    assert found.nodes[0].attributes["slope"] == pytest.approx(0.2)
    assert found.nodes[0].attributes["offset"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    "steps",
    [
        [("add", ("x", 3.0)), ("clamp", (-1,), SIX), ("mul", ("x", -1)), ("mul", (-1, 1 / 5))],
        [("add", ("x", 2.0)), ("clamp", (-1,), SIX), ("mul", ("x", -1)), ("mul", (-1, 1 / 6))],
        [("mul", ("x", 1.702)), ("sigmoid", (-1,)), ("mul", ("x", -1))],
        [("erf", ("x",)), ("add", (-1, 1.0)), ("mul", (0.5, -1)), ("mul", ("x", -1))],
        [("sigmoid", ("x",)), ("mul", (-1, -1))],
        [("add", ("x", 3.0)), ("clamp", (-1,), SIX)],
        [("mul", ("x", 1.0)), ("clamp", (-1,), ONE)],
    ],
)
def test_others_stay_as_they_are(steps: Any) -> None:
    found = check(steps)
    names = {node.operator for node in found.nodes}
    assert not names & {"hardswish", "silu", "gelu", "hardsigmoid"}
    assert len(found.nodes) == len(steps)


def test_the_argument_may_be_scaled_before() -> None:
    steps = [("mul", ("x", 0.25)), ("sigmoid", (-1,)), ("mul", (0, -1))]
    assert [node.operator for node in check(steps).nodes] == ["mul", "silu"]


def test_parts_that_are_used_elsewhere_stay() -> None:
    steps = [("sigmoid", ("x",)), ("mul", ("x", -1)), ("add", (0, -1))]
    assert [node.operator for node in check(steps).nodes] == ["sigmoid", "silu", "add"]


AXES = {"axes": (1,), "keepdims": True}

WEIGHT, BIAS = np.linspace(1, 2, 8), np.linspace(-1, 1, 8)

CENTRED = [("mean", ("x",), AXES), ("sub", ("x", -1))]

NORMS = {
    "layer_norm": [
        [*CENTRED, ("mul", (1, 1)), ("mean", (-1,), AXES), ("add", (-1, 1e-5)), ("sqrt", (-1,)),
         ("div", (1, -1))],
        [*CENTRED, ("mul", (1, 1)), ("mean", (-1,), AXES), ("add", (1e-5, -1)), ("sqrt", (-1,)),
         ("reciprocal", (-1,)), ("mul", (-1, 1))],
        # computed twice
        [*CENTRED, ("sub", ("x", 0)), ("mul", (-1, -1)), ("mean", (-1,), AXES),
         ("add", (-1, 1e-5)), ("sqrt", (-1,)), ("div", (1, -1))],
    ],
    "rms_norm": [
        [("mul", ("x", "x")), ("mean", (-1,), AXES), ("add", (-1, 1e-6)), ("sqrt", (-1,)),
         ("div", ("x", -1))],
        [("mul", ("x", "x")), ("mean", (-1,), AXES), ("add", (-1, 1e-6)), ("sqrt", (-1,)),
         ("reciprocal", (-1,)), ("mul", ("x", -1))],
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "name, steps", [(name, steps) for name, spellings in NORMS.items() for steps in spellings]
)
def test_normalisations_are_recognised_with_their_weights(name: str, steps: Any) -> None:
    found = check(steps)
    assert [node.operator for node in found.nodes] == [name]
    epsilon = 1e-5 if name == "layer_norm" else 1e-6
    assert found.nodes[0].attributes == {"axes": (1,), "epsilon": pytest.approx(epsilon)}
    found = check([*steps, ("mul", (-1, WEIGHT)), ("add", (BIAS, -1))])
    if name == "layer_norm":
        assert [node.operator for node in found.nodes] == ["layer_norm"]
        assert len(found.nodes[0].inputs) == 3
    else:
        assert [node.operator for node in found.nodes] == ["rms_norm", "add"]


def test_a_normalisation_over_other_axes_than_its_mean_is_none_of_a_layer() -> None:
    other = {"axes": (0,), "keepdims": True}
    steps = [("mean", ("x",), other), *NORMS["layer_norm"][0][1:]]
    assert "layer_norm" not in {node.operator for node in check(steps).nodes}


def test_weights_stay_apart_where_the_normalisation_is_used_elsewhere() -> None:
    steps = [*NORMS["rms_norm"][0], ("mul", (-1, WEIGHT)), ("add", (4, -1))]
    assert [node.operator for node in check(steps).nodes] == ["rms_norm", "mul", "add"]
