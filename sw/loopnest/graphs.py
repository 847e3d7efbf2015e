"""Graphs on the chip: breadth-first search, shortest paths, PageRank, triangles.

A graph is a square matrix, sparse or dense: an entry (i, j) is an edge from i to j, whose weight is
the value.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from .chip import Chip
from .epilogue import Epilogue
from .tensor import Tensor

UNREACHED = -1
"""The depth of a node that a search does not reach."""


def bfs(chip: Chip, graph: Any, source: int) -> NDArray[np.int64]:
    """Return each node's distance in edges from ``source``, -1 where there is no way.

    A step is one kernel: the frontier's rows, where the nodes have not been reached.

    Raises
    ------
    ValueError
        If the graph is not square or has no node ``source``.
    """
    edges = _square(graph)
    depth = np.full(_node(edges, source), UNREACHED)
    depth[source] = 0
    frontier = np.array([source])
    while len(frontier):
        reached = chip.compute(
            "y[j] = x[i] * A[i,j]",
            x=_indicator(frontier, len(depth)),
            A=edges,
            order="ij",
            mask=depth != UNREACHED,
            complement=True,
            semiring="plus_pair",
        )
        last = depth[frontier[0]]
        (frontier,) = reached.coords
        depth[frontier] = last + 1
    return depth


def sssp(chip: Chip, graph: Any, source: int) -> NDArray[np.float64]:
    """Return the lengths of the shortest paths from ``source``, infinite where there is none.

    Bellman and Ford's: a step takes the edges of the nodes whose distance has changed. The weights
    are as the chip stores them, int8 or bf16; distances are wide, and on a bf16 chip each sum is
    rounded to fp32.

    Raises
    ------
    ValueError
        If the graph is not square, has no node ``source``, or has a cycle of negative length that
        can be reached.
    """
    edges = Tensor.from_scipy(_square(graph), dtype=chip.config.dtype)
    nodes = _node(edges, source)
    distance = np.full(nodes, np.inf)
    distance[source] = 0
    changed = np.array([source])
    for _ in range(nodes + 1):
        if not len(changed):
            return distance
        known = Tensor.from_coo(
            [changed], distance[changed], (nodes,), dtype=chip.config.dtype, wide=True
        )
        found = chip.compute(
            "y[j] = x[i] * A[i,j]",
            x=known,
            A=edges,
            order="ij",
            semiring="min_plus",
        ).to_scipy()
        (reached,) = found.coords
        length = found.data.astype(np.float64)
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
    """Return the nodes' PageRank; it sums to 1. Every edge counts alike.

    A node without edges jumps anywhere. A step is one kernel: the ranks over the edges, then
    damping and jumps on the way out.

    Parameters
    ----------
    tolerance : float
        The steps end when one changes the ranks by less than this in the 1-norm. The result is then
        within ``(tolerance + rounding) * damping / (1 - damping)`` of the fixed point, rounding
        being what fp32 makes of a step: for a sum of up to d terms (d + 3) * 2^-24 in the 1-norm.
    most : int
        Steps at most.

    Raises
    ------
    ValueError
        On an int8 chip, for a graph that is not square, or if ``most`` steps are not enough.
    """
    if chip.config.dtype is NumberFormat.INT8:
        raise ValueError("pagerank on an int8 chip: expected bf16, which sums in fp32")
    edges = Tensor.from_scipy(_square(graph), dtype=chip.config.dtype)
    nodes = edges.shape[0]
    degree = np.bincount(edges.stored_entries()[0][0], minlength=nodes)
    rank = np.full(nodes, 1 / max(nodes, 1))
    if not nodes:
        return rank
    for _ in range(most):
        jumps = (1 - damping) / damping + rank[degree == 0].sum()
        given = Tensor.from_dense(rank / np.maximum(degree, 1), dtype=chip.config.dtype, wide=True)
        step = chip.compute(
            "y[j] = x[i] * A[i,j]",
            x=given,
            A=edges,
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
    """Return the number of triangles, whatever the edges' directions: one kernel.

    The sum is exact below 2^31 on an int8 chip and 2^24 on a bf16 chip.

    Raises
    ------
    ValueError
        If the graph is not square.
    """
    edges = _square(graph)
    edges.data = np.ones(edges.nnz)
    below = sp.csr_array(sp.tril(edges + edges.T, -1))
    total = chip.compute("t = A[i,j] * A[j,k] * A[i,k]", A=below, order="ijk", semiring="plus_pair")
    return int(total)


def _square(graph: Any) -> sp.csr_array:
    """Return the graph's matrix, its values as they are; explicit zeros stay edges."""
    edges = sp.csr_array(graph)
    if edges.shape[0] != edges.shape[1]:
        raise ValueError(f"graph of shape {edges.shape}: expected a square matrix")
    return edges.copy()


def _node(edges: Any, source: int) -> int:
    """Return the number of nodes; ``source`` has to be one."""
    nodes: int = edges.shape[0]
    if not 0 <= source < nodes:
        raise ValueError(f"source={source}: expected a node from 0 to {nodes - 1}")
    return nodes


def _indicator(nodes: NDArray[np.int64], count: int) -> sp.coo_array:
    """Return a vector of ``count`` with a 1 for each of the nodes."""
    return sp.coo_array((np.ones(len(nodes)), (nodes,)), shape=(count,))
