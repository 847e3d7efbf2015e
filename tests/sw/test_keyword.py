"""The example of sparse weights times sparse activations, on the golden model."""

import json
from pathlib import Path

import numpy as np
import pytest

from loopnest.examples import keyword
from loopnest.examples.winners import draw, forward, keep_winners, train


def test_on_the_golden_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(keyword, "HIDDEN", 256)
    monkeypatch.setattr(keyword, "WINNERS", 13)
    monkeypatch.setattr(keyword, "FAN_IN", (4, 6, 256))
    options = ["--backend", "model", "--epochs", "5", "--images", "40", "--output", str(tmp_path)]
    keyword.main(options)
    figures = json.loads((tmp_path / "keyword.json").read_text())
    # no more than the winners times their weights, and the pixels that are not 0
    winners = 40 * 13
    hidden, last = winners * 256 * 6 / 256, winners * 10
    assert figures["multiplies"] <= 40 * 256 * 4 + 1.3 * hidden + last
    assert figures["skipped"] > 0.95 and figures["weights_kept"] < 1 / 12
    assert figures["cycles"] is figures["dense_cycles"] is None
    assert figures["accuracy"]["float"] > 0.5
    assert "the chip's results are not the golden model's" not in figures["problems"]
    places = {row["origin"]: row["where"] for row in figures["placement"]}
    assert [places[f"linear layer{n}"] for n in (1, 2, 3)] == ["chip"] * 3
    assert places["top_k largest1"] == "host"
    assert (tmp_path / "keyword.png").stat().st_size > 1000
    assert "of the multiplies skipped" in capsys.readouterr().out


def test_winners() -> None:
    x = np.array([[1, -5], [3, -2], [2, -1]], np.float32)
    assert keep_winners(x, 1).tolist() == [[0, 0], [3, 0], [0, -1]]
    assert keep_winners(x, 1, -x).tolist() == [[1, -5], [0, 0], [0, 0]]


def test_training() -> None:
    """Only the weights that a neuron has from the start are trained, and training helps."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 300)).astype(np.float32)
    labels = (x[0] > 0) + 2 * (x[1] > 0)
    layers = draw(np.ones(20, bool), (64, 4), (5, 64))
    before = [layer.weights.copy() for layer in layers]
    epochs: list[None] = []
    train(layers, x, labels, winners=8, epochs=20, step=lambda: epochs.append(None))
    assert len(epochs) == 20
    for layer, old in zip(layers, before, strict=True):
        assert np.array_equal(layer.weights.indices, old.indices)
        assert np.mean(layer.weights.data != old.data) > 0.9
    assert np.mean(forward(layers, x, 8).argmax(axis=0) == labels) > 0.8


def test_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        keyword.main(["--images", "0", "--output", str(tmp_path)])
    assert "--images 0: expected 1 or more" in capsys.readouterr().err
