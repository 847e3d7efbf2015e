"""Graph algorithms on real graphs, against SciPy's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse import csgraph

from loopnest import Chip
from loopnest.graphs import UNREACHED, bfs, count_triangles, pagerank, sssp
from loopnest_hw.config import NumberFormat

from .matrices import load_matrix, matrix_names

GRAPHS = ("ca-CondMat", "facebook", "wiki-Vote")
"""The folder's graphs that are run by default; others are run by name."""

DAMPING = 0.85
TOLERANCE = 1e-6
"""Tolerance of PageRank's steps, in the 1-norm."""

STEPS = 400
"""Iterations of the reference PageRank in double precision: damping to that power is negligible."""


class CountedChip(Chip):
    """A chip that adds up the cycles and kernels of all its runs."""

    cycles = 0
    kernels = 0

    def compute(self, *args: Any, **arguments: Any) -> Any:
        """Run a statement, as `Chip.compute` does."""
        result = super().compute(*args, **arguments)
        assert self.report is not None
        self.cycles += self.report.cycles or 0
        self.kernels += self.report.order.count(",") + 1
        return result


@dataclass(frozen=True, kw_only=True)
class GraphOutcome:
    """The outcome of one algorithm on one graph.

    Attributes
    ----------
    kernels : int
        Steps, of one kernel each.
    cycles : int
        Of all kernels; 0 on the golden model.
    found : str
        A summary of the result, for the table.
    right : bool
        The result equals SciPy's; for PageRank: is within its bound.
    distance, bound : float or None
        For PageRank: the distance from its fixed point in double precision, in the 1-norm, and its
        bound.
    seconds : float
    """

    graph: str
    algorithm: str
    kernels: int
    cycles: int
    found: str
    right: bool
    distance: float | None = None
    bound: float | None = None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by name."""
        return asdict(self)


def graph_outcomes(
    chip: CountedChip, folder: Path, wanted: Sequence[str], announce: Callable[[str], None]
) -> Iterator[GraphOutcome]:
    """Run the algorithms on the folder's graphs; ``announce`` is called with the name of each run.

    The source is the node with the most edges; weights are 1 to 8.

    Raises
    ------
    ValueError
        If the folder has no such file, or a matrix is not square.
    """
    names = matrix_names(folder)
    for name in wanted or [name for name in GRAPHS if name in names]:
        if name not in names:
            raise ValueError(f"{name}: expected one of {', '.join(names)}")
        edges = abs(load_matrix(folder, name))
        source = int(np.argmax(np.diff(edges.indptr)))
        runs = [
            ("BFS", lambda e, s: _search(chip, e, s)),
            ("SSSP", lambda e, s: _paths(chip, e, s)),
        ]
        if chip.config.dtype is not NumberFormat.INT8:
            runs.append(("PageRank", lambda e, s: _ranks(chip, e)))
        runs.append(("triangles", lambda e, s: _triangles(chip, e)))
        for algorithm, run in runs:
            announce(f"{algorithm} {name}")
            chip.cycles = chip.kernels = 0
            start = perf_counter()
            found, right, *norms = run(edges, source)
            yield GraphOutcome(
                graph=name,
                algorithm=algorithm,
                kernels=chip.kernels,
                cycles=chip.cycles,
                found=found,
                right=bool(right),
                distance=norms[0] if norms else None,
                bound=norms[1] if norms else None,
                seconds=perf_counter() - start,
            )


def _search(chip: Chip, edges: sp.csr_array, source: int) -> tuple[Any, ...]:
    depth = bfs(chip, edges, source)
    expected = csgraph.shortest_path(edges, unweighted=True, indices=source)
    expected[np.isinf(expected)] = UNREACHED
    found = f"{np.sum(depth != UNREACHED):,} nodes, at most {depth.max()} edges away"
    return found, np.array_equal(depth, expected)


def _paths(chip: Chip, edges: sp.csr_array, source: int) -> tuple[Any, ...]:
    length = sssp(chip, edges, source)
    reached = np.isfinite(length)
    found = f"{reached.sum():,} nodes, at most {length[reached].max():.0f} far"
    return found, np.array_equal(length, csgraph.dijkstra(edges, indices=source))


def _ranks(chip: Chip, edges: sp.csr_array) -> tuple[Any, ...]:
    rank = pagerank(chip, edges, damping=DAMPING, tolerance=TOLERANCE)
    fixed = fixed_point(edges)
    distance = float(np.abs(rank - fixed).sum())
    most = int(np.diff(edges.tocsc().indptr).max())
    rounding = (most + 3) * 2.0**-24
    bound = (TOLERANCE + rounding) * DAMPING / (1 - DAMPING)
    found = f"node {rank.argmax()} has {rank.max():.2%}"
    return found, distance <= bound and rank.argmax() == fixed.argmax(), distance, bound


def fixed_point(edges: sp.csr_array) -> NDArray[np.float64]:
    """Return PageRank in double precision."""
    nodes = edges.shape[0]
    pattern = sp.csr_array((np.ones(edges.nnz), edges.indices, edges.indptr), edges.shape)
    degree = np.diff(pattern.indptr)
    back = sp.csr_array(pattern.T)
    rank = np.full(nodes, 1 / nodes)
    for _ in range(STEPS):
        along = back @ (rank / np.maximum(degree, 1)) + rank[degree == 0].sum() / nodes
        rank = DAMPING * along + (1 - DAMPING) / nodes
    return rank / rank.sum()


def _triangles(chip: Chip, edges: sp.csr_array) -> tuple[Any, ...]:
    both = sp.csr_array((edges + edges.T) != 0).astype(np.int64)
    both.setdiag(0)
    below = sp.csr_array(sp.tril(both, -1))
    expected = int((below @ below).multiply(below).sum())
    found = count_triangles(chip, edges)
    return f"{found:,}", found == expected
