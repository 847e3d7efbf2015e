"""Axes that are repeated, cut, joined and moved; views of values."""

import numpy as np
import pytest

import loopnest
from loopnest.graph.graph import Graph, Node
from tests.sw.graph.models import CHIPS, check, normal, places, starts


def test_axes_along_which_all_operands_repeat():
    """No kernel walks them, but for a constant that tells them apart."""
    whole = {"shape": (2, 4, 5, 5)}
    nodes = (
        Node("ax", "broadcast", ("a",), whole),
        Node("bx", "broadcast", ("b",), whole),
        Node("cx", "broadcast", ("c",), whole),
        Node("y", "add", ("ax", "bx")),
        Node("z", "mul", ("cx", "bx")),
        Node("r", "relu", ("cx",)),
        Node("q", "mul", ("r", "s")),
        Node("t", "add", ("q", "s")),
        Node("u", "add", ("y", "cx")),
        Node("p", "softmax", ("u",)),
    )
    inputs = {"a": normal(1, 5, 5), "b": normal(2, 2, 1, 1, 5), "c": normal(3, 2, 1, 5, 5)}
    model = check(Graph(inputs, {"s": normal(4, 4, 1, 1)}, nodes, ("y", "z", "t", "p")))
    assert set(places(model).values()) == {"view", "chip", "host"}


def test_five_axes_of_which_one_is_taken():
    """Queries, keys and values of a batch, as one linear layer computes them."""
    nodes = [
        Node("h", "linear", ("x", "w")),
        Node("s", "reshape", ("h",), {"shape": (2, 5, 3, 4, 6)}),
        Node("t", "transpose", ("s",), {"axes": (2, 0, 3, 1, 4)}),
    ]
    for n, name in enumerate("qkv"):
        cut = {"axes": (0,), "starts": (n,), "stops": (n + 1,), "steps": (1,)}
        nodes.append(Node(f"{name}5", "slice", ("t",), cut))
        nodes.append(Node(name, "reshape", (f"{name}5",), {"shape": (2, 4, 5, 6)}))
    nodes.append(Node("kt", "transpose", ("k",), {"axes": (0, 1, 3, 2)}))
    nodes.append(Node("a", "matmul", ("q", "kt")))
    nodes.append(Node("y", "matmul", ("a", "v")))
    graph = Graph({"x": normal(1, 2, 5, 16)}, {"w": normal(2, 72, 16)}, tuple(nodes), ("y",))
    model = check(graph, tolerance=0.03)
    assert starts(model) == 1 and "host" not in places(model).values()


def test_a_view_that_is_copied_says_so():
    graph = Graph(
        {"x": normal(1, 3, 8)},
        {"w": normal(2, 8, 8), "v": normal(3, 2, 6)},
        (
            Node("y", "linear", ("x", "w")),
            Node("turned", "transpose", ("y",), {"axes": (1, 0)}),
            Node("rows", "reshape", ("turned",), {"shape": (4, 6)}),
            Node("again", "reshape", ("rows",), {"shape": (2, 2, 6)}),
            Node("z", "linear", ("again", "v")),
            Node("s", "add", ("y", "y")),
        ),
        ("z", "s"),
    )
    model = check(graph)
    placed = {p.node.result: p for p in model.placement}
    assert places(model) == {n: "view" if n in ("turned", "again") else "chip" for n in placed}
    assert placed["rows"].why == "copies" and model.layers[placed["rows"].layer].multiplies == 24


def cut(stop, start=0):
    """Return the attributes of a slice of the last of two axes."""
    return {"axes": [1], "starts": [start], "stops": [stop], "steps": [1]}


def test_the_first_elements_of_an_axis():
    """A slice from 0 on shows less than what is stored, in statements of every kind."""
    graph = Graph(
        {"x": normal(1, 3, 6)},
        {"w": normal(2, 12, 6), "c": normal(3, 4)},
        (
            Node("y", "linear", ("x", "w")),
            Node("a", "slice", ("y",), cut(4)),
            Node("b", "slice", ("y",), cut(8, 4)),
            Node("scaled", "mul", ("a", "c")),
            Node("added", "add", ("a", "b")),
            Node("summed", "sum", ("a",), {"axes": [1]}),
            Node("turned", "concat", ("b", "a"), {"axis": 1}),
            Node("at", "transpose", ("a",), {"axes": (1, 0)}),
            Node("product", "matmul", ("at", "y")),
            Node("heads", "reshape", ("y",), {"shape": (3, 3, 4)}),
            Node("mixed", "transpose", ("heads",), {"axes": (1, 0, 2)}),
            Node("half", "slice", ("mixed",), {**cut(2), "axes": [2]}),
            Node("rest", "slice", ("mixed",), {**cut(4, 2), "axes": [2]}),
            Node("rolled", "concat", ("rest", "half"), {"axis": 2}),
        ),
        ("scaled", "added", "summed", "turned", "product", "rolled"),
    )
    model = check(graph)
    assert "host" not in places(model).values()
    copies = {placed.node.result for placed in model.placement if placed.why == "copies"}
    assert copies == {"turned", "rolled"} and "concat rolled: copies" in str(model.placement)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_parts_are_joined(axis):
    graph = Graph(
        {"x": normal(1, 2, 3, 4), "y": normal(2, 2, 3, 4)},
        {"w": normal(3, 4, 4), "c": normal(4, 2, 3, 4)},
        (
            Node("a", "linear", ("x", "w")),
            Node("b", "relu", ("y",)),
            Node("joined", "concat", ("a", "b", "c"), {"axis": axis}),
            Node("r", "relu", ("joined",)),
            Node("p", "pad", ("a",), {"padding": [[0, 0], [1, 2], [0, 0]]}),
            Node("q", "pad", ("a",), {"padding": [[0, 0], [1, 2], [0, 0]], "value": 2.0}),
            Node("s", "sum", ("r",), {"axes": [axis]}),
        ),
        ("r", "p", "q", "s"),
    )
    where = places(check(graph))
    assert {name for name, place in where.items() if place == "host"} == {"q"}


def test_heads_that_are_repeated():
    """Keys for several heads: five axes with a repeated one in the middle are no view, nor a copy
    of up to four modes.
    """
    graph = Graph(
        {"k": normal(1, 2, 7, 2, 4), "q": normal(2, 2, 6, 7, 4)},
        {"w": normal(3, 4, 4)},
        (
            Node("m", "matmul", ("k", "w")),
            Node("t", "transpose", ("m",), {"axes": (0, 2, 1, 3)}),
            Node("u", "reshape", ("t",), {"shape": (2, 2, 1, 7, 4)}),
            Node("b", "broadcast", ("u",), {"shape": (2, 2, 3, 7, 4)}),
            Node("r", "reshape", ("b",), {"shape": (2, 6, 7, 4)}),
            Node("v", "transpose", ("r",), {"axes": (0, 1, 3, 2)}),
            Node("y", "matmul", ("q", "v")),
        ),
        ("y",),
    )
    found = places(check(graph))
    assert found["r"] == "host" and found["y"] == "chip"


def test_more_axes_than_a_statement_copies():
    """The host puts those in order that lie in five pieces."""
    turned = {"axes": (4, 2, 0, 3, 1)}
    cut = {"axes": (0, 1, 3), "starts": (1, 0, 1), "stops": (3, 3, 3), "steps": (1, 2, 1)}
    graph = Graph(
        {"x": normal(1, 3, 3, 2, 3, 3)},
        {"v": normal(2, 3, 3), "w": normal(3, 4, 3)},
        (
            Node("h", "linear", ("x", "v")),
            Node("t", "transpose", ("h",), turned),
            Node("y", "linear", ("t", "w")),
            Node("s", "slice", ("h",), cut),
            Node("z", "linear", ("s", "w")),
            Node("a", "sum", ("h",), {"axes": (1, 3)}),
            Node("m", "max", ("h",), {"axes": (1, 3)}),
            Node("c", "concat", ("t", "t"), {"axis": 1}),
        ),
        ("y", "z", "a", "m", "c"),
    )
    found = places(check(graph))
    assert found["t"] == found["s"] == "host" and found["y"] == found["z"] == "chip"


def test_inputs_of_more_axes_than_a_kernel_reads():
    """Those of an int8 chip are integers that a narrow tensor does not hold."""
    graph = Graph(
        {"x": normal(1, 2, 3, 2, 1, 2, 1), "u": normal(2, 2, 3, 2, 2, 3)},
        {},
        (
            Node("p", "pad", ("x",), {"padding": [[0, 0], [0, 0], [0, 0], [0, 1], [0, 0], [0, 1]]}),
            Node("s", "sum", ("u",), {"axes": (1, 3)}),
            Node("c", "concat", ("u", "u"), {"axis": 2}),
            Node("h", "softmax", ("u",)),
            Node("j", "concat", ("h", "u"), {"axis": 2}),
        ),
        ("p", "s", "c", "j"),
    )
    for dtype, chip in CHIPS.items():
        found = loopnest.compile(graph, chip=chip).run()
        for name, wanted in graph.evaluate().items():
            assert np.max(np.abs(found[name] - wanted)) <= 0.02 * np.max(np.abs(wanted)), dtype


def test_a_product_of_more_modes_than_a_kernel_writes():
    """Three axes of the batch, of which each factor lacks another one."""
    graph = Graph(
        {"a": normal(1, 2, 1, 3, 4, 5), "b": normal(2, 2, 3, 1, 5, 4)},
        {},
        (Node("y", "matmul", ("a", "b")),),
        ("y",),
    )
    assert places(check(graph)) == {"y": "host"}
