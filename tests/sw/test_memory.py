"""What compiling and saving take of the host's memory, in multiples of the weights."""

import tracemalloc

import numpy as np
import pytest

import loopnest
from loopnest import Chip
from loopnest.graph.graph import Graph, Node

LAYERS, WIDTH = 8, 384


@pytest.mark.parametrize("kept, compiling, saving", [(1.0, 0.5, 2.5), (0.3, 2.5, 2.7)])
def test_weights_are_not_copied_again_and_again(kept, compiling, saving, tmp_path):
    """A whole model of 134M weights has to fit: what planning makes of a layer's weights is gone
    before the next one's.
    """
    rng = np.random.default_rng(1)
    weights = {
        f"w{n}": (rng.standard_normal((WIDTH, WIDTH)) * (rng.random((WIDTH, WIDTH)) < kept)).astype(
            np.float32
        )
        for n in range(LAYERS)
    }
    nodes, x = [], "x"
    for n in range(LAYERS):
        nodes.append(Node(f"y{n}", "linear", (x, f"w{n}")))
        x = f"y{n}"
    graph = Graph({"x": np.ones((1, WIDTH), np.float32)}, weights, tuple(nodes), (x,))
    size = sum(array.nbytes for array in weights.values())
    tracemalloc.start()
    try:
        program = loopnest.compile(graph, chip=Chip(dtype="bf16", backend="model"))
        compiled = tracemalloc.get_traced_memory()[1] / size
        tracemalloc.reset_peak()
        program.save(tmp_path / "net.lnp")
        saved = tracemalloc.get_traced_memory()[1] / size
    finally:
        tracemalloc.stop()
    assert compiled < compiling and saved < saving
