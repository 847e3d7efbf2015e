"""Convolutional networks: images stay in the chip's memory from layer to layer."""

import numpy as np
import pytest

import loopnest
from loopnest.graph import emit_images
from loopnest.graph.graph import Graph, Node
from tests.sw.graph.models import CHIP, check, normal, places, starts


def window(stride=1, padding=0, dilation=1, groups=1, dimensions=2):
    def each(n):
        return list(n) if isinstance(n, tuple) else [n] * dimensions

    pads = [[p, p] if np.ndim(p) == 0 else list(p) for p in each(padding)]
    return {
        "stride": each(stride),
        "padding": pads,
        "dilation": each(dilation),
        "groups": groups,
    }


def residual(batch):
    """A residual block, a separable one with squeeze and excitation, and a classifier."""
    inputs = {"x": normal(1, batch, 3, 12, 10)}
    constants = {
        "w1": normal(2, 8, 3, 3, 3),
        "b1": normal(3, 8),
        "w2": normal(4, 8, 8, 3, 3) * 0.2,
        "scale": normal(5, 1, 8, 1, 1),
        "shift": normal(6, 1, 8, 1, 1),
        "wd": normal(7, 8, 1, 5, 5) * 0.3,
        "w3": normal(8, 16, 8, 1, 1),
        "ws": normal(9, 16, 16),
        "bs": normal(10, 16),
        "w4": normal(11, 4, 16, 3, 3) * 0.3,
    }
    nodes = (
        Node("c1", "conv", ("x", "w1", "b1"), window(padding=1)),
        Node("r1", "relu", ("c1",)),
        Node("c2", "conv", ("r1", "w2"), window(padding=1)),
        Node("n2", "mul", ("c2", "scale")),
        Node("bn", "add", ("n2", "shift")),
        Node("sum", "add", ("bn", "r1")),
        Node("r2", "relu", ("sum",)),
        Node("d", "conv", ("r2", "wd"), window((2, 1), 2, groups=8)),
        Node("hs", "hardswish", ("d",)),
        Node("c3", "conv", ("hs", "w3"), window()),
        Node("mean", "mean", ("c3",), {"axes": [2, 3], "keepdims": False}),
        Node("fc", "linear", ("mean", "ws", "bs")),
        Node("gate", "hardsigmoid", ("fc",)),
        Node("gates", "reshape", ("gate",), {"shape": (batch, 16, 1, 1)}),
        Node("se", "mul", ("c3", "gates")),
        Node("c4", "conv", ("se", "w4"), window((1, 2), 1)),
        Node("flat", "reshape", ("c4",), {"shape": (batch, 4 * 6 * 5)}),
    )
    return Graph(inputs, constants, nodes, ("flat",))


@pytest.mark.parametrize("batch", [1, 3])
def test_blocks_of_networks_in_one_start(batch):
    model = check(residual(batch), tolerance=0.03)
    assert "host" not in places(model).values()
    assert starts(model) == 1


@pytest.mark.parametrize(
    "shape, weights, attributes",
    [
        ((2, 4, 9), (6, 4, 3), window(2, 1, dimensions=1)),
        ((1, 4, 9), (4, 1, 3), window(1, ((2, 0),), groups=4, dimensions=1)),
        ((2, 6, 7, 5), (4, 3, 3, 2), window((2, 1), ((1, 0), 1), (1, 2), 2)),
        ((2, 3, 6, 6), (5, 3, 1, 1), window(2)),
        ((1, 1, 5, 5), (1, 1, 5, 5), window()),
    ],
)
def test_convolutions(shape, weights, attributes):
    graph = Graph(
        {"x": normal(1, *shape)},
        {"w": normal(2, *weights), "b": normal(3, weights[0])},
        (Node("y", "conv", ("x", "w", "b"), attributes), Node("z", "relu", ("y",))),
        ("z",),
    )
    assert set(places(check(graph)).values()) == {"chip"}


def test_images_of_other_layouts_are_added():
    """A convolution without padding has another border than one with it: the images are moved."""
    graph = Graph(
        {"x": normal(1, 2, 3, 8, 8)},
        {
            "v": normal(2, 4, 3, 3, 3),
            "w": normal(3, 4, 3, 5, 5),
            "u": normal(4, 4, 4, 3, 3),
            "c": normal(5, 4, 4, 4),
        },
        (
            Node("a", "conv", ("x", "v"), window(2, 1)),
            Node("b", "conv", ("x", "w"), window(1)),
            Node("s", "add", ("a", "b")),
            Node("t", "add", ("s", "c")),
            Node("m", "mul", ("t", "b")),
            Node("y", "conv", ("m", "u"), window(1, 1)),
        ),
        ("y", "t"),
    )
    model = check(graph, tolerance=0.04)
    assert "host" not in places(model).values()


@pytest.mark.parametrize("batch", [1, 2])
def test_poolings(batch):
    pooled = {"kernel": [3, 3], "stride": [2, 2], "padding": [[1, 1], [1, 1]]}
    graph = Graph(
        {"x": normal(1, batch, 3, 9, 8)},
        {"v": normal(2, 4, 3, 3, 3), "w": normal(3, 6, 4, 3, 3), "b": normal(4, 4)},
        (
            Node("c", "conv", ("x", "v", "b"), window(1, 1)),
            Node("m", "max_pool", ("c",), {**pooled, "dilation": [1, 1]}),
            Node("r", "relu", ("c",)),
            Node("n", "max_pool", ("r",), {**pooled, "dilation": [1, 1]}),
            Node("s", "add", ("m", "n")),
            Node("a", "avg_pool", ("s",), {**pooled, "count_padding": False}),
            Node("e", "clamp", ("a",), {"low": -1, "high": 1}),
            Node("d", "conv", ("e", "w"), window(1, 1)),
            Node("mean", "mean", ("d",), {"axes": [2, 3], "keepdims": True}),
            Node(
                "part",
                "avg_pool",
                ("d",),
                {"kernel": [2, 1], "stride": [1, 1], "padding": [[0, 0], [0, 0]], "divisor": 3},
            ),
        ),
        ("mean", "part"),
    )
    model = check(graph, tolerance=0.03)
    assert "host" not in places(model).values()
    assert starts(model) == 1


def test_padding_before_a_convolution_is_its_own():
    graph = Graph(
        {"x": normal(1, 1, 3, 5, 6)},
        {"w": normal(2, 4, 3, 3, 3)},
        (
            Node("p", "pad", ("x",), {"padding": [[0, 0], [0, 0], [0, 1], [1, 0]]}),
            Node("y", "conv", ("p", "w"), window((2, 1), ((1, 0), 0))),
        ),
        ("y",),
    )
    model = check(graph)
    assert places(model) == {"y": "chip"} and len(model.layers) == 1


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("zeros", [False, True])
def test_several_filters_of_each_channel(stride, zeros, monkeypatch):
    """The channels are repeated, where that takes less time: the filters of one are few lanes."""
    x = normal(1, 2, 24, 7, 7)
    graph = Graph(
        {"x": np.where(np.abs(x) > 1.6, x, 0) if zeros else x},
        {"w": normal(2, 48, 1, 3, 3), "b": normal(3, 48), "v": normal(4, 48, 1, 3, 3)},
        (
            Node("y", "conv", ("x", "w", "b"), window(stride, 1, groups=24)),
            Node("r", "relu", ("y",)),
            Node("z", "conv", ("r", "v"), window(1, 1, groups=48)),
        ),
        ("z",),
    )
    model = check(graph)
    assert set(places(model).values()) == {"chip"} and starts(model) == 1
    assert ("x_repeated" in model.layers) is not zeros

    def otherwise(weights, groups, _):
        return zeros and len(weights) > groups

    monkeypatch.setattr(emit_images, "repeats_channels", otherwise)
    other = loopnest.compile(graph, chip=CHIP)
    if not zeros:
        assert sum(model.expected.values()) < sum(other.expected.values())
    np.testing.assert_allclose(model(), other(), atol=1e-4)


@pytest.mark.parametrize(
    ("filters", "kept", "density", "repeats"),
    [(2, 1, 1, True), (1, 1, 1, False), (4, 1, 1, True), (4, 1, 0.4, False), (8, 1, 1, False),
     (2, 0, 1, False)],
)  # fmt: skip
def test_when_channels_are_repeated(filters, kept, density, repeats):
    weights = kept * np.ones((16 * filters, 1, 3, 3), np.float32)
    assert emit_images.repeats_channels(weights, 16, density) is repeats
    assert not emit_images.repeats_channels(np.ones((8, 2, 3, 3)), 4, 1.0)
