"""Rows of embedding tables, and bags of them."""

import numpy as np
import pytest

import loopnest
from loopnest.graph.graph import Graph, Node
from tests.sw.graph.models import CHIP, check, normal, places


def test_tables_and_axes():
    rng = np.random.default_rng(1)
    one = {"axes": [1], "starts": [0], "stops": [1], "steps": [1]}
    two = {"axes": [1], "starts": [1], "stops": [5], "steps": [2]}
    graph = Graph(
        {"ids": rng.integers(0, 30, (3, 4)), "offsets": np.array([0, 3, 3])},
        {"t": normal(2, 30, 8), "w": normal(3, 5, 8), "q": normal(4, 3, 2)},
        (
            Node("e", "embedding", ("ids", "t")),
            Node("mean", "mean", ("e",), {"axes": [1]}),
            Node("most", "max", ("e",), {"axes": [1], "keepdims": True}),
            Node("y", "linear", ("mean", "w")),
            Node("first", "slice", ("e",), one),
            Node("row", "reshape", ("first",), {"shape": (3, 8)}),
            Node("z", "linear", ("row", "w")),
            Node("part", "slice", ("y",), two),
            Node("d", "add", ("part", "q")),
            Node("b", "mul", ("e", "most")),
            Node("flat", "reshape", ("ids",), {"shape": (12,)}),
            Node("bag", "embedding_bag", ("flat", "offsets", "t"), {"mode": "mean"}),
            Node("r", "relu", ("bag",)),
            Node("total", "sum", ("e",), {"axes": [0, 1]}),
        ),
        ("most", "y", "z", "d", "b", "r", "total"),
    )
    model = check(graph)
    assert "host" not in places(model).values()


def test_weighted_bags():
    """Weights and padding are in the matrix that the host makes; a maximum is the host's."""
    rng = np.random.default_rng(2)
    bags = "ids", "offsets", "t"
    graph = Graph(
        {
            "ids": rng.integers(0, 30, 12),
            "offsets": np.array([0, 3, 3]),
            "weights": normal(5, 12),
        },
        {"t": normal(2, 30, 8)},
        (
            Node("sums", "embedding_bag", (*bags, "weights"), {"mode": "sum", "padding": 7}),
            Node("means", "embedding_bag", bags, {"mode": "mean", "padding": 7}),
            Node("most", "embedding_bag", bags, {"mode": "max", "padding": 7}),
        ),
        ("sums", "means", "most"),
    )
    graph.inputs["ids"][[1, 5]] = 7
    assert places(check(graph)) == {"sums": "chip", "means": "chip", "most": "host"}


@pytest.mark.parametrize("operator", ["embedding", "gather"])
def test_indices_that_are_no_integers(operator):
    names = ("ids", "t") if operator == "embedding" else ("t", "ids")
    graph = Graph(
        {"ids": np.array([0, 2])}, {"t": normal(1, 5, 3)}, (Node("y", operator, names),), ("y",)
    )
    model = loopnest.compile(graph, chip=CHIP)
    for wrong in (1.5, np.nan, np.inf):
        with pytest.raises(ValueError, match="expected an integer"):
            model(np.array([0, wrong]))
    np.testing.assert_array_equal(model(np.array([0.0, 2.0])), model(np.array([0, 2])))


def test_indices_from_the_end():
    table = normal(1, 5, 3)
    node = Node("y", "embedding", ("ids", "t"), {"wraps": True})
    model = loopnest.compile(
        Graph({"ids": np.array([0, 2])}, {"t": table}, (node,), ("y",)), chip=CHIP
    )
    np.testing.assert_array_equal(model(np.array([-1, -5])), model(np.array([4, 0])))
    with pytest.raises(ValueError, match="index -1: expected 0 to 4"):
        model(np.array([0, -6]))
