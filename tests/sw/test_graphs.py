"""Graph algorithms on the golden model, against SciPy."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse import csgraph

from loopnest import Chip, Tensor
from loopnest.graphs import bfs, count_triangles, pagerank, sssp

CHIPS = {dtype: Chip(dtype=dtype, backend="model") for dtype in ("bf16", "int8")}


def random_graph(seed: int, nodes: int = 120, density: float = 0.02) -> sp.csr_array:
    """Return a directed graph with weights from 1 to 100, of several parts."""
    rng = np.random.default_rng(seed)
    graph = sp.random_array((nodes, nodes), density=density, rng=rng, format="csr")
    graph.data = rng.integers(1, 101, graph.nnz).astype(float)
    return graph


@pytest.mark.parametrize("dtype", CHIPS)
@pytest.mark.parametrize("seed", range(3))
def test_bfs(dtype: str, seed: int) -> None:
    graph = random_graph(seed)
    expected = csgraph.shortest_path(graph, unweighted=True, indices=5)
    got = bfs(CHIPS[dtype], graph, 5)
    np.testing.assert_array_equal(np.where(got < 0, np.inf, got), expected)
    assert np.isinf(expected).any() and expected[np.isfinite(expected)].max() > 2


@pytest.mark.parametrize("dtype", CHIPS)
@pytest.mark.parametrize("seed", range(3))
def test_sssp(dtype: str, seed: int) -> None:
    """Weights up to 100 and their sums are exact in either format."""
    graph = random_graph(seed)
    np.testing.assert_array_equal(sssp(CHIPS[dtype], graph, 7), csgraph.dijkstra(graph, indices=7))


def test_more_nodes_than_the_accumulator_holds() -> None:
    """600 nodes are 38 blocks, so three steps for 16 slots, one for 512."""
    graph = random_graph(3, nodes=600, density=0.01)
    few = Chip(slots=16, backend="model")
    steps = csgraph.shortest_path(graph, unweighted=True, indices=0)
    pushed = {
        chip: [r for r in reports(chip, lambda c=chip: bfs(c, graph, 0)) if r.order == "ij"]
        for chip in (few, CHIPS["bf16"])
    }
    assert len(pushed[few]) == 3 * len(pushed[CHIPS["bf16"]]) > 0
    np.testing.assert_array_equal(bfs(few, graph, 0), np.where(np.isinf(steps), -1, steps))


def test_more_nodes_than_a_loop_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two panels of nodes: a step adds what it finds of each."""
    graph = random_graph(4, nodes=24, density=0.1)
    triangles = count_triangles(CHIPS["int8"], graph)
    monkeypatch.setattr("loopnest.formats.panels.PANEL", 16)
    steps = csgraph.shortest_path(graph, unweighted=True, indices=5)
    got = bfs(CHIPS["int8"], graph, 5)
    np.testing.assert_array_equal(np.where(got < 0, np.inf, got), steps)
    lengths = csgraph.dijkstra(graph, indices=5)
    np.testing.assert_array_equal(sssp(CHIPS["bf16"], graph, 5), lengths)
    assert count_triangles(CHIPS["int8"], graph) == triangles > 0


def reports(chip, run):
    """Return the reports of all statements that a function computes."""
    found, compute = [], chip.compute

    def watched(*args, **options):
        result = compute(*args, **options)
        found.append(chip.report)
        return result

    chip.compute = watched
    run()
    chip.compute = compute
    return found


def test_weights_that_do_not_matter() -> None:
    """An int8 chip has no 500 and no 1.5."""
    graph = random_graph(6)
    graph.data = np.where(graph.data > 50, 500, 1.5)
    steps = csgraph.shortest_path(graph, unweighted=True, indices=0)
    got = bfs(CHIPS["int8"], graph, 0)
    np.testing.assert_array_equal(np.where(got < 0, np.inf, got), steps)


def test_negative_weights() -> None:
    graph = sp.csr_array(np.array([[0, 5, 1], [0, 0, 0], [0, -3, 0]]))
    np.testing.assert_array_equal(sssp(CHIPS["int8"], graph, 0), [0, -2, 1])
    around = sp.csr_array(np.array([[0, 1], [-2, 0]]))
    with pytest.raises(ValueError, match="cycle of negative length"):
        sssp(CHIPS["int8"], around, 0)


def exact_pagerank(graph: sp.csr_array, damping: float) -> np.ndarray:
    """Return the fixed point in float64, by solving for it."""
    nodes = graph.shape[0]
    pattern = (graph.toarray() != 0) * 1.0
    degree = pattern.sum(axis=1)
    walk = np.where(degree[:, None] > 0, pattern / np.maximum(degree, 1)[:, None], 1 / nodes)
    return np.linalg.solve(np.eye(nodes) - damping * walk.T, np.full(nodes, (1 - damping) / nodes))


@pytest.mark.parametrize("damping", [0.5, 0.85])
def test_pagerank(damping: float) -> None:
    """Within its documented bound; some nodes have no edges."""
    graph = random_graph(4, density=0.01)
    assert (np.diff(graph.indptr) == 0).any()
    got = pagerank(CHIPS["bf16"], graph, damping=damping)
    terms = int((graph != 0).sum(axis=0).max())
    bound = (1e-6 + (terms + 3) * 2.0**-24) * damping / (1 - damping)
    assert np.abs(got - exact_pagerank(graph, damping)).sum() <= bound
    assert got.sum() == pytest.approx(1)


@pytest.mark.parametrize("dtype", CHIPS)
def test_triangles(dtype: str) -> None:
    graph = random_graph(5, density=0.06)
    either = ((graph + graph.T) != 0).toarray() * 1
    np.fill_diagonal(either, 0)
    expected = np.trace(np.linalg.matrix_power(either, 3)) // 6
    assert count_triangles(CHIPS[dtype], graph) == expected > 50


def test_errors() -> None:
    chip = CHIPS["int8"]
    with pytest.raises(ValueError, match=r"shape \(2, 3\): expected a square matrix"):
        bfs(chip, np.ones((2, 3)), 0)
    with pytest.raises(ValueError, match="source=4: expected a node from 0 to 1"):
        sssp(chip, np.ones((2, 2)), 4)
    with pytest.raises(ValueError, match="pagerank on an int8 chip"):
        pagerank(chip, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"damping=1\.5: expected a number between 0 and 1"):
        pagerank(CHIPS["bf16"], np.ones((2, 2)), damping=1.5)
    with pytest.raises(TypeError):
        bfs(chip, np.ones((2, 2)), 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="most=2: the last step"):
        pagerank(CHIPS["bf16"], random_graph(1), most=2)


@pytest.mark.parametrize("run", [bfs, sssp])
@pytest.mark.parametrize(
    ("error", "message", "graph", "source"),
    [
        (ValueError, r"graph of shape \(3,\): expected a square matrix", np.ones(3), 0),
        (ValueError, "graph: list whose parts differ in shape", [[1], [2, 3]], 0),
        (TypeError, "graph is NoneType of object: expected a scipy.sparse array", None, 0),
        (TypeError, "source=True: expected an integer", np.ones((2, 2)), True),
        (ValueError, "source=-1: expected a node from 0 to 1", np.ones((2, 2)), -1),
    ],
)
def test_bad_graphs_and_nodes(run, error, message, graph, source) -> None:
    with pytest.raises(error, match=message):
        run(CHIPS["bf16"], graph, source)


def test_bad_numbers() -> None:
    with pytest.raises(ValueError, match="graph: a weight is NaN"):
        sssp(CHIPS["bf16"], np.array([[0, np.nan], [0, 0]]), 0)
    with pytest.raises(ValueError, match="most=0: expected 1 or more"):
        pagerank(CHIPS["bf16"], np.ones((2, 2)), most=0)
    with pytest.raises(TypeError, match=r"most=2\.5: expected an integer"):
        pagerank(CHIPS["bf16"], np.ones((2, 2)), most=2.5)  # type: ignore[arg-type]


def test_a_tensor_is_a_graph() -> None:
    graph = random_graph(2)
    tensor = Tensor.from_scipy(graph, levels="compressed,compressed")
    for run in (bfs, sssp):
        expected = run(CHIPS["bf16"], graph, 3)
        np.testing.assert_array_equal(run(CHIPS["bf16"], tensor, 3), expected)


def test_half_precision():
    edges = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], np.float16)
    assert (
        bfs(CHIPS["bf16"], edges, 0).tolist() == bfs(CHIPS["bf16"], edges.astype(float), 0).tolist()
    )


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_a_tolerance_that_no_step_meets(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        pagerank(CHIPS["bf16"], np.ones((3, 3)), tolerance=tolerance)
