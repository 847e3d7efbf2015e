"""The GraphChallenge example, on the golden model."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Epilogue
from loopnest.examples import graphchallenge
from loopnest.examples.graphchallenge import draw_network, main, read_network


def save(path: Path, layers: int, images: int) -> Path:
    """Write a network in the form of the example's file."""
    network = draw_network(layers, images)
    columns = [w.indices.reshape(1024, 32).astype(np.uint16) for w in network.weights]
    indptr, indices = network.images.indptr, network.images.indices
    np.savez(path, weight_columns=columns, image_indptr=indptr, image_indices=indices)
    return path


def test_drawn_and_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--backend", "model", "--images", "6", "--layers", "3", "--output", str(tmp_path)]
    assert main(options) == 0
    report = json.loads((tmp_path / "graphchallenge.json").read_text())
    network = draw_network(3, 6)
    *_, last = activations = network.reference
    multiplies = network.multiplies(activations)
    assert report["layer_multiplies"] == multiplies and report["multiplies"] == sum(multiplies)
    assert report["categories"] == np.flatnonzero(np.diff(last.indptr)).tolist() != []
    assert report["cycles"] is None and not report["problems"]
    assert (tmp_path / "graphchallenge.png").stat().st_size > 1000
    file = save(tmp_path / "network.npz", 4, 9)
    assert main([*options, "--file", str(file)]) == 0
    assert json.loads((tmp_path / "graphchallenge.json").read_text()) == report
    assert "of 6 images (0 to 5) have a category" in capsys.readouterr().out


def test_images_are_spread_over_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "network.npz", 2, 13)
    every = draw_network(2, 13).images
    for first, numbers in ((None, [0, 3, 6, 9]), (0, [0, 1, 2, 3]), (9, [9, 10, 11, 12])):
        network = read_network(file, 2, 4, first)
        assert network.numbers.tolist() == numbers
        assert (network.images != every[numbers]).nnz == 0
    assert read_network(file, 2, 13).numbers.tolist() == list(range(13))
    # the numbers of a category are those of the file
    options = [
        "--backend",
        "model",
        "--layers",
        "2",
        "--output",
        str(tmp_path),
        "--file",
        str(file),
    ]
    for given, numbers in (
        (["--images", "4"], [0, 3, 6, 9]),
        (["--images", "2", "--first", "5"], [5, 6]),
    ):
        assert main([*options, *given]) == 0
        report = json.loads((tmp_path / "graphchallenge.json").read_text())
        last = draw_network(2, 13).reference[-1]
        wanted = [n for n in numbers if np.diff(last.indptr)[n]]
        assert report["categories"] == wanted != []
        assert report["image_numbers"] == [numbers[0], numbers[-1]]
    capsys.readouterr()
    monkeypatch.setattr(graphchallenge, "EPILOGUE", Epilogue(bias=-1e3, clamp=(0, 32)))
    monkeypatch.setattr(graphchallenge, "layer", lambda h, w: sp.csr_array(h.shape, dtype="f4"))
    assert main([*options, "--images", "4"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "none of 4 images (0 to 9, in steps of 3) has a category" in said


def test_layers_are_radix_nets() -> None:
    """32 weights in each row and column; the layers differ."""
    one, two = draw_network(2, 1).weights
    for layer in (one, two):
        assert (np.diff(layer.indptr) == 32).all() and (np.diff(layer.tocsc().indptr) == 32).all()
    assert (one != two).nnz


def test_wrong_files(tmp_path: Path) -> None:
    file = save(tmp_path / "network.npz", 2, 3)
    with pytest.raises(ValueError, match="has 2 layers and 3 images: expected 3 and 3"):
        read_network(file, 3, 3)
    with pytest.raises(ValueError, match="has 2 layers and 3 images: expected 2 and 4"):
        read_network(file, 2, 2, first=2)
    assert (read_network(file, 2, 1, first=2).images != draw_network(2, 3).images[2:]).nnz == 0
    np.savez(tmp_path / "other.npz", weight_columns=np.zeros((1, 2, 3)), image_indptr=[0],
             image_indices=[0])  # fmt: skip
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\): expected \(layers, 1024, 32\)"):
        read_network(tmp_path / "other.npz", 1, 1)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="expected weight_columns, image_indptr and"):
        read_network(tmp_path / "text.npz", 1, 1)
    for wrong in (["--images", "0"], ["--first", "1"], ["--file", str(file), "--first", "-1"]):
        with pytest.raises(SystemExit):
            main(wrong)
