"""The example of a graph convolutional network, on the golden model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopnest.examples.gcn import draw_papers, main, read_papers


def save(path: Path, **other: Any) -> Path:
    """Write papers in the form of the example's file."""
    papers = draw_papers(300, 210)
    arrays = {
        "graph_indptr": papers.graph.indptr,
        "graph_indices": papers.graph.indices.astype(np.uint16),
        "feature_indptr": papers.words.indptr,
        "feature_indices": papers.words.indices.astype(np.uint16),
        "labels": papers.labels.astype(np.uint8),
        "train": papers.train,
        "test": papers.test,
    }
    np.savez(path, **{name: array for name, array in (arrays | other).items() if array is not None})
    return path


def test_papers_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(tmp_path / "papers.npz")
    options = ["--backend", "model", "--output", str(tmp_path), "--file", str(file)]
    assert main(options) == 0
    report = json.loads((tmp_path / "gcn.json").read_text())
    papers = draw_papers(300, 210)
    hidden, classes = 16, 7
    assert report["layers"]["Z"]["multiplies"] == papers.words.nnz * hidden
    assert report["layers"]["Y"]["multiplies"] == (papers.graph.nnz + 300) * classes
    assert report["cycles"] is report["dense_cycles"] is None and not report["problems"]
    assert report["accuracy"]["float"] > 0.5 > 2 / classes
    assert (tmp_path / "gcn.png").stat().st_size > 1000
    assert "papers of the right class" in capsys.readouterr().out


def test_drawn_papers() -> None:
    """A graph of Cora's size and kind: symmetric, without loops, most citations within a class."""
    papers = draw_papers()
    graph = papers.graph.tocoo()
    assert (papers.graph != papers.graph.T).nnz == 0 and not papers.graph.diagonal().any()
    assert 3 < graph.nnz / 2708 < 4.5 and 15 < papers.words.nnz / 2708 <= 18
    same = papers.labels[graph.row] == papers.labels[graph.col]
    assert 0.7 < same.mean() < 0.95
    assert set(papers.words.data) == set(graph.data) == {1}
    assert len(papers.train) == 140 and not set(papers.train) & set(papers.test)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels.*expected graph_indptr, graph_indices"):
        read_papers(save(tmp_path / "papers.npz", labels=None))
    with pytest.raises(ValueError, match="test has 300: expected 0 to 299"):
        read_papers(save(tmp_path / "papers.npz", test=np.array([3, 300])))
    with pytest.raises(ValueError, match=r"papers\.npz: "):
        read_papers(save(tmp_path / "papers.npz", graph_indices=np.array([7])))
    with pytest.raises(SystemExit):
        main(["--file", str(tmp_path / "none.npz")])
