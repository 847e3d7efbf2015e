"""Concatenation and padding: parts are written into their places."""

import numpy as np
import pytest

import loopnest
from loopnest.graph.graph import Graph, Node
from loopnest.graph.steps import find_steps
from tests.sw.graph.models import CHIP, CHIPS, check, normal, places, starts


def whys(model):
    return {placed.node.result: placed.why for placed in model.placement}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_kernels_write_parts_into_their_places(axis):
    """Where nothing else reads them, no part is copied."""
    graph = Graph(
        {"x": normal(1, 2, 3, 4), "y": normal(2, 2, 3, 4)},
        {"v": normal(3, 4, 4), "w": normal(4, 4, 4), "u": normal(5, 5, 4 + 4 * (axis == 2))},
        (
            Node("a", "linear", ("x", "v")),
            Node("b", "linear", ("y", "w")),
            Node("c", "concat", ("b", "a"), {"axis": axis}),
            Node("z", "linear", ("c", "u")),
        ),
        ("z",),
    )
    model = check(graph)
    assert set(places(model).values()) == {"chip"} and starts(model) == 1
    # rows are one mode of a linear layer's result: parts of it are no slice of all rows
    assert whys(model)["c"] == ("copies" if axis == 1 else "")
    assert len(model.layers) == (5 if axis == 1 else 3)


def test_a_part_that_is_read_elsewhere_is_copied():
    graph = Graph(
        {"x": normal(1, 3, 4)},
        {"v": normal(3, 4, 4), "w": normal(4, 4, 4)},
        (
            Node("a", "linear", ("x", "v")),
            Node("b", "linear", ("a", "w")),
            Node("c", "concat", ("a", "b"), {"axis": 1}),
            Node("d", "concat", ("b", "b"), {"axis": 0}),
        ),
        ("c", "d"),
    )
    model = check(graph)
    assert whys(model)["c"] == whys(model)["d"] == "copies" and starts(model) == 1


def test_a_cache_is_brought_in_its_place():
    """A decode step: the kernels write one row behind those that are given."""
    graph = Graph(
        {"x": normal(1, 1, 1, 12), "cache": normal(2, 1, 3, 20, 4)},
        {"v": normal(3, 12, 12)},
        (
            Node("n", "linear", ("x", "v")),
            Node("heads", "reshape", ("n",), {"shape": (1, 1, 3, 4)}),
            Node("new", "transpose", ("heads",), {"axes": (0, 2, 1, 3)}),
            Node("keys", "concat", ("cache", "new"), {"axis": 2}),
            Node("turned", "transpose", ("keys",), {"axes": (0, 1, 3, 2)}),
            Node("scores", "matmul", ("new", "turned")),
        ),
        ("keys", "scores"),
    )
    model = check(graph)
    assert places(model)["keys"] == "chip" and starts(model) == 1
    found = model.run()
    # not rounded to bf16 on its way
    assert np.array_equal(found["keys"][:, :, :20], graph.inputs["cache"])
    assert model.layers[model.placement[3].layer].multiplies == 12


def test_what_the_host_has_is_joined_there():
    graph = Graph(
        {"x": normal(1, 3, 4), "y": normal(2, 2, 4)},
        {"w": normal(3, 4, 4)},
        (Node("c", "concat", ("x", "y"), {"axis": 0}), Node("z", "linear", ("c", "w"))),
        ("z",),
    )
    model = check(graph)
    assert places(model) == {"c": "host", "z": "chip"}


@pytest.mark.parametrize("seed", range(12))
def test_random_parts(seed):
    """Inputs, constants and results, joined along any axis and padded on several; activations
    after that.
    """
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(2, 5))
    shape = [int(n) for n in rng.integers(1, 5, rank)]
    axis = int(rng.integers(rank))
    inputs, constants, nodes, parts = {"t": normal(seed, shape[-1])}, {}, [], []
    for n in range(int(rng.integers(2, 4))):
        own = list(shape)
        own[axis] = int(rng.integers(1, 4))
        kind = rng.choice(["input", "constant", "result"])
        name = f"p{n}"
        array = normal(10 * seed + n, *own)
        if kind == "constant":
            constants[name] = array
        elif kind == "input":
            inputs[name] = array
        else:
            inputs[f"x{n}"], constants[f"c{n}"] = array, normal(n, *own)
            nodes.append(Node(name, "add", (f"x{n}", f"c{n}")))
        parts.append(name)
    nodes.append(Node("joined", "concat", tuple(parts), {"axis": axis - rank * rng.integers(2)}))
    padding = [[int(n) for n in pair] for pair in rng.integers(0, 3, (rank, 2))]
    nodes += [
        Node("r", "relu", ("joined",)),
        Node("q", "add", ("joined", "joined")),
        Node("padded", "pad", ("q",), {"padding": padding}),
        Node("u", "mul", ("t", "t")),
    ]
    check(Graph(inputs, constants, tuple(nodes), ("r", "padded", "u")))


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_steps_of_a_quantised_concatenation(dtype):
    """Operands of other scales, and a result with steps of its own."""
    steps = {"scale": 0.05, "low": -128, "high": 127}
    graph = Graph(
        {"x": normal(1, 3, 4), "y": normal(2, 3, 4)},
        {"w": normal(3, 4, 4)},
        (
            Node("a", "linear", ("x", "w")),
            Node("b", "fake_quantize", ("a",), steps),
            Node("c", "fake_quantize", ("y",), {**steps, "scale": 0.02}),
            Node("joined", "concat", ("b", "c"), {"axis": 1}),
            Node("d", "fake_quantize", ("joined",), {**steps, "scale": 0.03}),
        ),
        ("d",),
    )
    found = loopnest.compile(graph, chip=CHIPS[dtype])()
    (expected,) = graph.evaluate().values()
    assert np.max(np.abs(found - expected)) <= 0.16


def test_steps_of_quantised_tensors_are_those_of_padded_ones():
    """Nothing is rounded again."""
    rounded = {"scale": 0.02, "low": -66, "high": 189}
    graph = Graph(
        {"x": normal(1, 2, 3, 4)},
        {"w": np.eye(5, dtype=np.float32)},
        (
            Node("q", "fake_quantize", ("x",), rounded),
            Node("p", "pad", ("q",), {"padding": ((0, 0), (0, 1), (0, 1))}),
            Node("y", "linear", ("p", "w")),
        ),
        ("p", "y"),
    )
    assert find_steps(graph)["p"] == find_steps(graph)["q"]
    found = loopnest.compile(graph, chip=CHIPS["int8"]).run()
    for name, wanted in graph.evaluate().items():
        assert np.allclose(found[name], wanted, atol=1e-5, rtol=0), name


def test_too_many_modes():
    shape = (2, 2, 2, 2, 2)
    graph = Graph(
        {"x": normal(1, *shape)},
        {"c": normal(2, *shape)},
        (
            Node("a", "mul", ("x", "c")),
            Node("p", "pad", ("a",), {"padding": [[0, 1]] * 5}),
        ),
        ("p",),
    )
    model = loopnest.compile(graph, chip=CHIP)
    assert whys(model)["p"] == "its 5 modes are more than 4"
    np.testing.assert_allclose(model(), graph.evaluate()["p"], atol=0.05)
