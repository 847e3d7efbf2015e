"""Graph algorithms on the RTL."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

from loopnest.graphs import bfs, count_triangles, sssp
from tests.rtl.chips import Pair, on


@on("shrunk/int8", "single/bf16")
def test_graphs(pair: Pair) -> None:
    rng = np.random.default_rng(8)
    edges = sp.random_array((40, 40), density=0.06, rng=rng, format="csr")
    edges.data = rng.integers(1, 9, edges.nnz) * 1.0
    steps = csgraph.shortest_path(edges, unweighted=True, indices=3)
    steps[np.isinf(steps)] = -1
    chip = pair.chip()
    np.testing.assert_array_equal(bfs(chip, edges, 3), steps)
    np.testing.assert_array_equal(sssp(chip, edges, 3), csgraph.shortest_path(edges, indices=3))
    both = sp.csr_array((edges + edges.T) != 0).astype(int)
    both.setdiag(0)
    assert count_triangles(chip, edges) == (both @ both @ both).trace() // 6
