"""Graphs on the chip: breadth-first search, shortest paths, PageRank, triangles.

A graph is a square matrix, sparse or dense, or a `Tensor`: an entry (i, j) is an edge from i to j.
Its value is the weight for `sssp` and is ignored by the others. A step follows the edges that leave
the nodes it starts from (push), or those that enter the other nodes (pull), whichever is expected
to take fewer cycles. A push sums as many nodes at once as the accumulator holds.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import LANES, NumberFormat

from .arguments import integer
from .chip import Chip
from .epilogue import Epilogue
from .expression.sources import as_source
from .formats.layouts import storable
from .formats.tensor import Tensor

WAYS = {"push": ("y[j] = x[i] * A[i,j]", "ij"), "pull": ("y[j] = x[i] * A[j,i]", "ji")}
"""A step's statement and loops; for a pull, edges are stored by the nodes that they lead to."""

EXACT = 1 << 24
"""Integers below this are exact in fp32."""

UNREACHED = -1
"""The depth of a node that a search does not reach."""


def bfs(chip: Chip, graph: Any, source: int) -> NDArray[np.int64]:
    """Return each node's distance in edges from ``source``, -1 if there is no path.

    A step is one kernel: the nodes that the frontier's edges lead to.

    Raises
    ------
    ValueError
        If the graph is not square or has no node ``source``.
    """
    edges = _Edges(chip, _pattern(graph))
    depth = np.full(_node(edges, source), UNREACHED)
    depth[source] = 0
    frontier = np.array([source])
    while len(frontier):
        reached = edges.step(
            _vector(chip, frontier, np.ones(len(frontier)), len(depth)),
            out="compressed",
            semiring="plus_pair",
        )
        last = depth[frontier[0]]
        # a mask would be joined with the edges of every node of the frontier
        ((nodes,), _) = reached.stored_entries()
        frontier = nodes[depth[nodes] == UNREACHED]
        depth[frontier] = last + 1
    return depth


def sssp(chip: Chip, graph: Any, source: int) -> NDArray[np.float64]:
    """Return the lengths of the shortest paths from ``source``, infinite if there is none.

    Bellman-Ford: a step relaxes the edges of the nodes whose distance has changed. The weights are
    stored as int8 or bf16; distances are wide, and on a bf16 chip each sum is rounded to fp32.

    Raises
    ------
    ValueError
        If the graph is not square, has no node ``source``, a weight that is NaN, or a reachable
        cycle of negative length (with the chip's rounding).
    """
    matrix = _square(graph)
    if np.isnan(matrix.data).any():
        raise ValueError("graph: a weight is NaN: expected numbers")
    edges = _Edges(chip, matrix)
    nodes = _node(edges, source)
    distance = np.full(nodes, np.inf)
    distance[source] = 0
    changed = np.array([source])
    for _ in range(nodes + 1):
        if not len(changed):
            return distance
        known = _vector(chip, changed, distance[changed], nodes, wide=True)
        found = edges.step(known, out="compressed", semiring="min_plus")
        ((reached,), length) = found.to_coo()
        shorter = length < distance[reached]
        changed = reached[shorter]
        distance[changed] = length[shorter]
    raise ValueError("graph: it has a cycle of negative length")


def pagerank(
    chip: Chip,
    graph: Any,
    *,
    damping: float = 0.85,
    tolerance: float = 1e-6,
    most: int = 200,
) -> NDArray[np.float64]:
    """Return the nodes' PageRank, which sums to 1. All edges have the same weight.

    From a node without edges, every node follows with equal probability. A step is one kernel: the
    sum over the edges, with damping and jumps in the epilogue.

    Parameters
    ----------
    tolerance : float
        The iteration ends when a step changes the ranks by less than this in the 1-norm. The result
        is then within ``(tolerance + rounding) * damping / (1 - damping)`` of the fixed point,
        where rounding is the error of a step in fp32: (d + 3) * 2^-24 in the 1-norm, for sums of up
        to d terms.
    most : int
        Maximum number of steps.

    Raises
    ------
    ValueError
        On an int8 chip, for a damping that is not between 0 and 1, a negative tolerance, a graph
        that is not square, no steps, or if ``most`` steps are not enough.
    """
    if not 0 < damping < 1:
        raise ValueError(f"damping={damping}: expected a number between 0 and 1")
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}: expected 0 or more")
    if integer("most", most) < 1:
        raise ValueError(f"most={most}: expected 1 or more")
    if chip.config.dtype is NumberFormat.INT8:
        raise ValueError("pagerank on an int8 chip: expected bf16, which sums in fp32")
    matrix = _pattern(graph)
    edges = _Edges(chip, matrix)
    nodes = edges.shape[0]
    degree = np.diff(matrix.indptr)
    rank = np.full(nodes, 1 / max(nodes, 1))
    if not nodes:
        return rank
    for _ in range(most):
        jumps = (1 - damping) / damping + rank[degree == 0].sum()
        given = Tensor.from_dense(rank / np.maximum(degree, 1), dtype=chip.config.dtype, wide=True)
        step = edges.step(
            given,
            out="dense",
            semiring="plus_first",
            epilogue=Epilogue(bias=jumps / nodes, scale=damping),
        )
        after = step.to_dense().astype(np.float64)
        after /= after.sum()
        change, rank = np.abs(after - rank).sum(), after
        if change < tolerance:
            return rank
    raise ValueError(f"most={most}: the last step changed the ranks by {change:.1e}")


def count_triangles(chip: Chip, graph: Any) -> int:
    """Return the number of triangles, ignoring the edges' directions, with one kernel.

    Raises
    ------
    ValueError
        If the graph is not square, or on a bf16 chip has 2^24 triangles or more, where fp32 is not
        exact.
    ChipError
        If it has 2^31 or more on an int8 chip.
    """
    edges = _pattern(graph)
    both = sp.csr_array(edges + edges.T)
    # an edge is stored at its end with fewer edges, so no node has many
    busiest = np.argsort(-np.diff(both.indptr), kind="stable")
    below = sp.csr_array(sp.tril(both[busiest][:, busiest], -1))
    total = chip.compute("t = A[i,j] * A[j,k] * A[i,k]", A=below, order="ijk", semiring="plus_pair")
    if chip.config.dtype is not NumberFormat.INT8 and total >= EXACT:
        raise ValueError("2^24 triangles or more: expected an int8 chip, which counts to 2^31")
    return int(total)


class _Edges:
    """A graph's edges, packed by the nodes that they leave (in groups of the nodes that they enter,
    each of which fits the accumulator), and by the nodes that they enter.
    """

    def __init__(self, chip: Chip, matrix: sp.csr_array) -> None:
        self.shape: tuple[int, int] = matrix.shape
        self._chip = chip
        config = chip.config
        width = LANES * config.slots
        parts = [matrix[:, n : n + width] for n in range(0, matrix.shape[1], width)]
        self._packed = {
            "push": [Tensor.from_scipy(part, dtype=config.dtype) for part in parts or [matrix]],
            "pull": [Tensor.from_scipy(matrix.T, dtype=config.dtype)],
        }

    def step(self, x: Tensor, *, epilogue: Epilogue | None = None, **arguments: Any) -> Tensor:
        """Return ``y[j] = x[i] * A[i,j]``; the arguments are those of `Chip.compute`."""

        def cost(way: str) -> float:
            text, order = WAYS[way]
            return sum(
                plan.cycles
                for part in self._packed[way]
                for plan in self._chip.explain(text, order=order, x=x, A=part, **arguments).plans
            )

        way = min(WAYS, key=cost)
        text, order = WAYS[way]
        parts: list[Tensor] = [
            self._chip.compute(text, order=order, x=x, A=part, epilogue=epilogue, **arguments)
            for part in self._packed[way]
        ]
        before = np.cumsum([0, *(part.shape[0] for part in parts)])
        entries = [part.stored_entries() for part in parts]
        nodes = [at + first for ((at,), _), first in zip(entries, before[:-1], strict=True)]
        return Tensor.from_stored(
            (int(before[-1]),),
            parts[0].levels,
            [np.concatenate(nodes)],
            np.concatenate([stored for _, stored in entries]),
            dtype=parts[0].dtype,
            wide=parts[0].wide,
        )


def _square(graph: Any) -> sp.csr_array:
    """Return the graph's matrix with unchanged values; explicit zeros remain edges."""
    graph = as_source("graph", graph)
    if len(graph.shape) != 2 or graph.shape[0] != graph.shape[1]:
        raise ValueError(f"graph of shape {graph.shape}: expected a square matrix")
    if isinstance(graph, Tensor):
        graph = graph.to_scipy()
    edges = sp.csr_array(graph if sp.issparse(graph) else storable(graph), copy=True)
    edges.sum_duplicates()
    return edges


def _pattern(graph: Any) -> sp.csr_array:
    """Return the graph's matrix with a 1 for each edge."""
    edges = _square(graph)
    edges.data = np.ones(edges.nnz)
    return edges


def _node(edges: Any, source: int) -> int:
    """Return the number of nodes, after checking that ``source`` is one."""
    nodes: int = edges.shape[0]
    if not 0 <= integer("source", source) < nodes:
        raise ValueError(f"source={source}: expected a node from 0 to {nodes - 1}")
    return nodes


def _vector(
    chip: Chip, nodes: NDArray[np.int64], values: NDArray[Any], count: int, *, wide: bool = False
) -> Tensor:
    """Return a sparse vector of ``count`` with values for some nodes."""
    return Tensor.from_coo([nodes], values, (count,), dtype=chip.config.dtype, wide=wide)
