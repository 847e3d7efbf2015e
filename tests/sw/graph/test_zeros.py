"""Zeros of activations: stored or not, and multiplied or not."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest.graph.graph import Graph, Node
from tests.sw.graph.models import CHIPS, check, normal, places


def kept(x, least, result):
    """Return nodes that keep the elements of a tensor that are this large; the host does that."""
    return [
        Node("large", "compare", (x, least), {"relation": "greater_equal"}),
        Node(result, "where", ("large", x, "zero")),
    ]


def sparse_network(*shape):
    """Return a network whose activations the host makes sparse."""
    weights = sp.random_array((12, 80), density=0.2, format="csr", dtype=np.float32, rng=1)
    weights.data += 1
    constants = {"w": weights, "least": np.float32(1), "zero": np.float32(0)}
    nodes = (*kept("x", "least", "a"), Node("y", "linear", ("a", "w")))
    return Graph({"x": normal(2, *shape, 80)}, constants, nodes, ("y",))


@pytest.mark.parametrize("shape", [(24,), (3, 8)])
def test_zeros_of_the_host_are_not_multiplied(shape):
    graph = sparse_network(*shape)
    model = check(graph)
    assert places(model) == {"large": "host", "a": "host", "y": "chip"}
    for chip in CHIPS.values():
        model = loopnest.compile(graph, chip=chip)
        model()
        x, weights = graph.inputs["x"].reshape(-1, 80), graph.constants["w"]
        both = np.count_nonzero(x >= 1, axis=0) @ (weights != 0).sum(axis=0)
        assert model.report.multiplies == both
        # without a zero, all are
        slow = model.dense()
        slow()
        assert slow.report.multiplies == x.size * weights.shape[0]


def test_zeros_of_inputs_are_not_multiplied():
    """An int8 chip gets its inputs from the host, as integers."""
    x = np.sign(normal(1, 16, 64)) * (normal(2, 16, 64) > 1)
    graph = Graph({"x": x}, {"w": normal(3, 8, 64)}, (Node("y", "linear", ("x", "w")),), ("y",))
    check(graph)
    for chip in CHIPS.values():
        model = loopnest.compile(graph, chip=chip)
        model()
        assert model.report.multiplies == 8 * np.count_nonzero(x)


def test_other_zeros_in_a_saved_program(tmp_path):
    """A program has room for as many entries as there may be."""
    graph = sparse_network(24)
    for dtype, chip in CHIPS.items():
        model = loopnest.compile(graph, chip=chip)
        model.save(tmp_path / f"{dtype}.lnp")
        loaded = loopnest.load(tmp_path / f"{dtype}.lnp", chip=chip)
        for x in (graph.inputs["x"], np.abs(graph.inputs["x"]), np.full((24, 80), 2.0)):
            x = x.astype(np.float32)
            assert np.array_equal(loaded(x), model(x))


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("after", ["relu", "clamp"])
def test_a_negative_bias_keeps_results_sparse(kind, after):
    """0 stays 0 where what is below 0 is cut off."""
    w, v, bias = 0.3 * normal(2, 16, 24), normal(3, 5, 16), np.full(16, -0.3, np.float32)
    x, how = normal(1, 32, 24), {}
    if kind == "conv":
        w, v, bias = w.reshape(16, 24, 1, 1), v.reshape(5, 16, 1, 1), bias.reshape(16, 1, 1)
        x, both = normal(1, 1, 24, 6, 6), ((0, 0), (0, 0))
        how = {"stride": (1, 1), "padding": both, "dilation": (1, 1), "groups": 1}
    nodes = (
        Node("a", kind, ("x", "w"), how),
        Node("b", "add", ("a", "bias")),
        Node("r", after, ("b",), {"low": 0.0, "high": 6.0} if after == "clamp" else {}),
        Node("y", kind, ("r", "v"), how),
    )
    graph = Graph({"x": x}, {"w": w, "v": v, "bias": bias}, nodes, ("y",))
    check(graph)
    for chip in CHIPS.values():
        first, *_ = loopnest.compile(graph, chip=chip).explain().plans
        assert first.result.compressed


def test_results_are_dense():
    """What sparse factors make is stored with its zeros, and returned as an array of NumPy."""
    weights = sp.random_array((8, 16), density=0.2, format="csr", dtype=np.float32, rng=1)
    x = normal(2, 4, 16) * (normal(3, 4, 16) > 1)
    nodes = Node("h", "relu", ("x",)), Node("y", "linear", ("h", "w"))
    graph = Graph({"x": x}, {"w": weights}, nodes, ("y", "h"))
    for chip in CHIPS.values():
        found = loopnest.compile(graph, chip=chip).run()
        assert all(isinstance(array, np.ndarray) for array in found.values())
    check(graph)
