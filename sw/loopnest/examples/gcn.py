"""A graph convolutional network: papers are classified by their words and by those of the papers
that they cite, and that cite them.

Two layers, ``relu(S X V)`` and ``S H W`` (Kipf and Welling, "Semi-Supervised Classification with
Graph Convolutional Networks", 2017). ``S`` is the graph with each node joined to itself, divided
by the roots of both nodes' degrees; ``X`` are the words of each paper, each row divided by its
sum. Both are sparse, and both are multiplied as they are. The network is trained here, with SciPy.
The golden model runs the same kernels, and has to agree bit for bit.

The file has the form of the Cora citation graph. Without one, a graph of that size is drawn: papers
of 7 classes that mostly cite their own, and mostly use their class's words.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from rich.console import Console

import loopnest
from loopnest import Assignment, Chip, Epilogue, Program
from loopnest.progress import task
from loopnest_hw.program import program as command

from .adam import Adam
from .checked import run_checked
from .dense import DenseLayer, compare_energy, rows_of_part
from .figures import finish, plot_layers, print_layers, program_figures
from .options import check_options, chip_of, parser_of

HIDDEN = 16
EPOCHS = 200
LEARNING_RATE = 0.01
WEIGHT_DECAY = 5e-4
DROPOUT = 0.5
SEED = 5

DENSE_MULTIPLIES = 400_000
"""Of the dense run of each layer for each PE, on as many rows; all rows take as much longer."""

ARRAYS = ("graph_indptr", "graph_indices", "feature_indptr", "feature_indices")
PARTS = ("train", "test")

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Papers:
    """A graph without loops, binary words by paper, classes, and the papers of each part."""

    graph: sp.csr_array
    words: sp.csr_array
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    def normalised(self) -> tuple[sp.csr_array, sp.csr_array]:
        """Return what the layers multiply: the graph ``S`` and the words ``X``."""
        joined = self.graph + sp.eye_array(len(self.labels), dtype=np.float32)
        roots = sp.diags_array(1 / np.sqrt(joined.sum(axis=1)))
        sums = np.maximum(self.words.sum(axis=1), 1)
        graph = (roots @ joined @ roots).tocsr().astype(np.float32)
        return graph, (sp.diags_array(1 / sums) @ self.words).tocsr().astype(np.float32)


@dataclass(frozen=True)
class Network:
    """The weights of two layers, (words, 16) and (16, classes), and what they multiply."""

    graph: sp.csr_array
    words: sp.csr_array
    first: Array
    second: Array

    def program(self, chip: Chip) -> Program:
        """Compile the network for a chip. Each product takes one wide factor, the one before."""
        relu = Epilogue(relu=True, out="narrow")
        layers = [
            "Z[n,h] = X[n,f] * V[f,h]",
            Assignment(statement="H[n,h] = S[n,m] * Z[m,h]", epilogue=relu),
            "U[n,c] = H[n,h] * W[h,c]",
            "Y[n,c] = S[n,m] * U[m,c]",
        ]
        inputs = {"X": self.words, "V": self.first, "S": self.graph, "W": self.second}
        return loopnest.compile(layers, inputs, chip=chip)

    def reference(self) -> Array:
        """Return the results in float32."""
        hidden = np.maximum(self.graph @ (self.words @ self.first), 0)
        return self.graph @ (hidden @ self.second)

    def multiplies(self) -> int:
        """Return the multiplies of all layers, as a dense product with the weights takes them."""
        nodes, classes = self.words.shape[0], self.second.shape[1]
        graph, hidden = self.graph.nnz, self.first.shape[1]
        return self.words.nnz * hidden + graph * hidden + nodes * hidden * classes + graph * classes


def read_papers(path: Path) -> Papers:
    """Return the papers of a file.

    Raises
    ------
    ValueError
        If it lacks arrays, or they contradict each other.
    OSError
        If it can't be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.int64) for name in (*ARRAYS, "labels", *PARTS)}
    except (KeyError, ValueError, EOFError, AttributeError) as error:
        expected = ", ".join((*ARRAYS, "labels", *PARTS))
        raise ValueError(f"{path}: {error}: expected {expected} in an .npz file") from None
    labels = arrays["labels"]
    try:
        columns = int(arrays["feature_indices"].max(initial=0)) + 1
        graph = _pattern(arrays["graph_indptr"], arrays["graph_indices"], len(labels), len(labels))
        words = _pattern(arrays["feature_indptr"], arrays["feature_indices"], len(labels), columns)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for name in PARTS:
        outside = arrays[name][(arrays[name] < 0) | (arrays[name] >= len(labels))]
        if outside.size:
            raise ValueError(f"{path}: {name} has {outside[0]}: expected 0 to {len(labels) - 1}")
    return Papers(graph, words, labels, *(arrays[name] for name in PARTS))


def _pattern(indptr: Any, indices: Any, rows: int, columns: int) -> sp.csr_array:
    """Return a matrix of ones."""
    found = sp.csr_array((np.ones(len(indices), np.float32), indices, indptr), (rows, columns))
    found.check_format()
    return found


def draw_papers(nodes: int = 2708, words: int = 1433, classes: int = 7) -> Papers:
    """Return drawn papers: with 4 citations each, of which 4 of 5 are of the own class, and 18
    words, of which 1 of 3 is of the class's.
    """
    rng = np.random.default_rng(SEED)
    labels = rng.integers(classes, size=nodes)
    own = [np.flatnonzero(labels == c) for c in range(classes)]
    citing = np.repeat(np.arange(nodes), 2)
    cited = rng.integers(nodes, size=2 * nodes)
    inside = rng.random(2 * nodes) < 0.8
    cited[inside] = [rng.choice(own[labels[n]]) for n in citing[inside]]
    kept = citing != cited
    ones = np.ones(kept.sum(), np.float32)
    half = sp.csr_array((ones, (citing[kept], cited[kept])), (nodes, nodes))
    graph = ((half + half.T) > 0).astype(np.float32).tocsr()
    each, per_class = 18, words // classes
    at = rng.integers(words, size=(nodes, each))
    special = rng.random((nodes, each)) < 1 / 3
    at = np.where(special, labels[:, None] * per_class + at % per_class, at)
    rows = np.repeat(np.arange(nodes), each)
    used = sp.csr_array((np.ones(at.size, np.float32), (rows, at.reshape(-1))), (nodes, words))
    used.data[:] = 1
    order = rng.permutation(nodes)
    train = np.concatenate([order[labels[order] == c][:20] for c in range(classes)])
    test = np.setdiff1d(order, train)[: nodes // 3]
    return Papers(graph, used, labels, train, test)


def train(papers: Papers, step: Any) -> Network:
    """Return a trained network: Adam on the training papers, with dropout and weight decay."""
    rng = np.random.default_rng(SEED)
    graph, words = papers.normalised()
    classes = int(papers.labels.max()) + 1

    def glorot(rows: int, columns: int) -> Array:
        limit = np.sqrt(6 / (rows + columns))
        return rng.uniform(-limit, limit, (rows, columns)).astype(np.float32)

    weights = [glorot(words.shape[1], HIDDEN), glorot(HIDDEN, classes)]
    adam = Adam(weights)
    wanted = np.eye(classes, dtype=np.float32)[papers.labels[papers.train]]
    for _ in range(EPOCHS):
        kept = words.copy()
        kept.data = kept.data * (rng.random(kept.nnz) > DROPOUT) / np.float32(1 - DROPOUT)
        hidden = np.maximum(graph @ (kept @ weights[0]), 0)
        mask = (rng.random(hidden.shape) > DROPOUT) / np.float32(1 - DROPOUT)
        hidden = (hidden * mask).astype(np.float32)
        scores = (graph @ (hidden @ weights[1]))[papers.train]
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        back = np.zeros((len(papers.labels), classes), np.float32)
        back[papers.train] = (shares - wanted) / len(papers.train)
        back = graph.T @ back
        inner = graph.T @ ((back @ weights[1].T) * mask * (hidden > 0))
        gradients = [kept.T @ inner + WEIGHT_DECAY * weights[0], hidden.T @ back]
        adam.step(gradients, LEARNING_RATE)
        step()
    return Network(graph, words, *weights)


def dense_layers(chip: Chip, network: Network, *, measured: bool) -> list[DenseLayer] | None:
    """Return what each layer takes with everything dense, at the rate of some rows unless all are
    to be measured; None if the backend counts no cycles.
    """
    hidden = np.maximum(network.graph @ (network.words @ network.first), 0)
    layers = [
        (network.words, network.first),
        (network.graph, network.words @ network.first),
        (hidden, network.second),
        (network.graph, hidden @ network.second),
    ]
    found = []
    for left, right in layers:
        each = -(-DENSE_MULTIPLIES // right.size)
        some = left if measured else left[: rows_of_part(chip, each, left.shape[0])]
        rows = some.toarray() if sp.issparse(some) else some
        chip.compute(
            "Y[n,o] = A[n,i] * B[i,o]",
            A=chip.tensor(rows, levels="dense,dense"),
            B=chip.tensor(right, levels="dense,dense"),
        )
        what = "" if measured else f"{len(rows)} of {left.shape[0]} rows"
        if (layer := DenseLayer.of(chip.report, left.shape[0] / len(rows), what)) is None:
            return None
        found.append(layer)
    return found


def accuracy(results: Any, papers: Papers) -> float:
    """Return the share of test papers whose class is right."""
    found = np.argmax(np.asarray(results), axis=1)
    return float(np.mean(found[papers.test] == papers.labels[papers.test]))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options, papers = _parse(arguments)
    console = Console()
    with task("training", EPOCHS, keep=True) as shown:
        network = train(papers, shown.advance)
    run = run_checked(options, network.program)
    compiled, report, problems = run.program, run.report, run.problems
    layers = dense_layers(chip_of(options, "bf16"), network, measured=options.dense)
    dense = None if layers is None else [layer.cycles for layer in layers]
    line, energies = compare_energy(report, compiled.layers, layers)

    shares = {
        "float": accuracy(network.reference(), papers),
        options.backend: accuracy(run.result, papers),
    }
    if report.multiplies > network.multiplies():
        problems.append(f"more multiplies than the {network.multiplies():,} of the patterns")
    if shares[options.backend] < shares["float"] - 0.01:
        problems.append("bf16 costs more than one paper in a hundred")
    print_layers(console, compiled, report, layers)
    console.print(
        f"test papers of the right class: {shares['float']:.1%} in float32, "
        f"{shares[options.backend]:.1%} on the {options.backend} backend"
    )
    if dense is not None and report.cycles:
        how = "" if options.dense else ", by the rate of some rows of each layer"
        console.print(
            f"everything dense: {sum(dense):,.0f} cycles{how}: "
            f"{sum(dense) / report.cycles:.0f}x as many\n{line}"
        )
    name = options.file.stem if options.file else "a drawn graph"
    title = f"Graph convolutional network on {name}, {len(papers.labels):,} papers"
    plot_layers(options, title, compiled, report, layers, measured=options.dense)
    figures = {
        "papers": len(papers.labels),
        "graph": {"entries": network.graph.nnz, "density": _density(network.graph)},
        "words": {"entries": network.words.nnz, "density": _density(network.words)},
        **program_figures(options, report),
        "dense_cycles": None if dense is None else sum(dense),
        **energies,
        "dense_measured": options.dense or f"{DENSE_MULTIPLIES:,} multiplies of each layer and PE",
        "accuracy": shares,
        "layers": {
            name: {"cycles": layer.cycles, "multiplies": layer.multiplies}
            for name, layer in compiled.layers.items()
        },
    }
    return finish(options, console, figures, problems)


def _density(matrix: Any) -> float:
    return matrix.nnz / (matrix.shape[0] * matrix.shape[1])


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Papers]:
    parser = parser_of("gcn", __doc__)
    parser.add_argument("--file", type=Path, help="graph, words and classes; default: drawn")
    options = parser.parse_args(arguments)
    try:
        check_options(options, "bf16")
        papers = draw_papers() if options.file is None else read_papers(options.file)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options, papers


if __name__ == "__main__":
    raise SystemExit(main())
