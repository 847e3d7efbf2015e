"""The example of the direction classifier: its crops and its pruning; and all of it, on the golden
model, where the network is installed.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from loopnest.examples.crops import HEIGHT, WIDTH, draw_crops
from loopnest.examples.pruning import pointwise, prune
from loopnest.examples.vision import PACKAGE, main, zeros_of
from loopnest.graph.graph import Graph, Node

RNG = np.random.default_rng(5)


def test_crops_are_words_upright_and_upside_down() -> None:
    pytest.importorskip("PIL")
    crops, labels = draw_crops(6, seed=2)
    assert crops.shape == (6, 3, HEIGHT, WIDTH) and crops.dtype == np.float32
    assert labels.tolist() == [0, 1, 0, 1, 0, 1] and np.abs(crops).max() <= 1
    assert all(np.ptp(crop) > 1 for crop in crops)
    again, _ = draw_crops(6, seed=2)
    assert np.array_equal(again, crops) and not np.array_equal(draw_crops(6, 3)[0], crops)


def network() -> Graph:
    """Return two pointwise convolutions with a normalisation, and one of 3 x 3."""
    plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    wide = plain | {"padding": ((1, 1), (1, 1))}
    # channels that depend on each other, so that what remains can stand in for what is pruned
    mixed = np.einsum("nchw,dc->ndhw", RNG.standard_normal((8, 2, 6, 5)), RNG.random((12, 2)))
    constants = {
        "w1": RNG.standard_normal((10, 12, 1, 1)),
        "scale": RNG.random((10, 1, 1)) + 0.5,
        "offset": RNG.standard_normal((10, 1, 1)),
        "w2": RNG.standard_normal((3, 10, 1, 1)),
        "w3": RNG.standard_normal((2, 3, 3, 3)),
    }
    nodes = (
        Node("a", "conv", ("x", "w1"), plain),
        Node("b", "mul", ("a", "scale")),
        Node("c", "add", ("b", "offset")),
        Node("d", "conv", ("c", "w2"), plain | {"stride": (2, 1)}),
        Node("y", "conv", ("d", "w3"), wide),
    )
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    return Graph({"x": (mixed + 1).astype(np.float32)}, constants, nodes, ("y",))


def test_pruned_weights_are_fitted_to_what_the_layers_computed() -> None:
    graph = network()
    assert [node.result for node in pointwise(graph)] == ["a", "d"]
    pruned = Graph(graph.inputs, prune(graph, 0.5), graph.nodes, graph.outputs)
    assert zeros_of(graph) == 0 and zeros_of(pruned) == pytest.approx(0.5)
    assert np.array_equal(pruned.constants["w3"], graph.constants["w3"])
    # the same zeros, without the fit
    masked = {
        name: np.where(np.asarray(pruned.constants[name]) == 0, 0, array)
        if name in ("w1", "w2")
        else array
        for name, array in graph.constants.items()
    }
    worse = Graph(graph.inputs, masked, graph.nodes, graph.outputs)
    (wanted,), (fitted,), (cut,) = (g.evaluate().values() for g in (graph, pruned, worse))
    assert fitted.dtype == np.float32
    assert np.linalg.norm(fitted - wanted) < 0.3 * np.linalg.norm(cut - wanted)


@pytest.mark.slow
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="the network is not installed (make models)")
def test_classes_are_those_of_the_float_network(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    pytest.importorskip("onnx")
    options = ["--backend", "model", "--crops", "8", "--checked", "2", "--zeros", "0.3"]
    assert main([*options, "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "vision.json").read_text())
    assert report["same_class"] == {"bf16": 2, "int8": 2, "pruned": 2} and not report["problems"]
    assert 0.25 < report["zeros_of_pointwise_weights"]["pruned"] < 0.35
    assert report["cycles"] < report["dense_cycles"] and not report["cycles_measured"]
    assert [place for place in report["operators_on_host"] if "Softmax" not in place] == []
    assert (tmp_path / "vision.png").stat().st_size > 1000


def test_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--crops", "3", "--checked", "4"], "--on-chip 1 --checked 4 --crops 3: expected 1 or"),
        (["--whole", "4"], "--whole 4: expected 0 to 3 (--checked)"),
        (["--zeros", "1"], "--zeros 1.0: expected 0 to less than 1"),
    ):
        with pytest.raises(SystemExit):
            main(options)
        assert message in capsys.readouterr().err
