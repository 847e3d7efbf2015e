"""All loop orders of some kernels, and the one that the runtime picks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from loopnest import Chip
from loopnest.expression.parser import parse

from .bounds import AsFastest, Below, Bound, Unbounded
from .cases import MATMUL, NO_SQUARE, SAM, SPMV, Case
from .matrices import SEED, load_matrix, matrix_names, nonzeros

ADD = "C[i,j] = A[i,j] + B[i,j]"
SDDMM = "X[i,j] = A[i,j] * c[i,k] * d[k,j]"

RANK = 10
"""Size of index k of `SDDMM`, except for the pair of the Sparse Abstract Machine."""

LIMIT = 20_000_000
"""Orders that are expected to take more cycles are omitted."""

SHARE = 1.1
"""Maximum cycles of the picked order, relative to the fastest one."""

SAM_ORDERS = {
    "ijk": 662_574,
    "jik": 662_574,
    "ikj": 25_235,
    "jki": 24_910,
    "kij": 30_833,
    "kji": 30_898,
}
"""Cycles of the Sparse Abstract Machine's simulator for the product of its pair."""

SAM_SDDMM = {1: 2_687, 10: 13_595, 100: 122_675}
"""The same for `SDDMM` on the first one of the pair, by the size of index k."""


def order_cases(chip: Chip, folder: Path, wanted: Sequence[str]) -> Iterator[Case]:
    """Yield SpMV, the sum, SDDMM and the product of the folder's matrices, in all orders that one
    kernel can run, and then in the picked one.
    """
    for name in matrix_names(folder):
        if (wanted and name not in wanted) or name == SAM[1]:
            continue
        A = load_matrix(folder, name)
        rng = np.random.default_rng(SEED)
        yield from _orders(
            chip, f"SpMV {name}", SPMV, lambda o: o["A"] @ o["x"], A=A, x=nonzeros(A.shape[1:], rng)
        )
        B = like(A, rng)
        yield from _orders(chip, f"sum {name}", ADD, lambda o: o["A"] + o["B"], A=A, B=B)
        for rank in SAM_SDDMM if name == SAM[0] else (RANK,):
            c, d = nonzeros((A.shape[0], rank), rng), nonzeros((rank, A.shape[1]), rng)
            sam = SAM_SDDMM[rank] if name == SAM[0] else None
            yield from _orders(
                chip, f"SDDMM {name}, k of {rank}", SDDMM, sampled, sam, A=A, c=c, d=d
            )
        if name in NO_SQUARE:
            continue
        if name == SAM[0]:
            other = load_matrix(folder, SAM[1])
        else:
            other = A if A.shape[0] == A.shape[1] else sp.csr_array(A.T)
        yield from _orders(
            chip,
            f"SpGEMM {name}",
            MATMUL,
            lambda o: o["A"] @ o["B"],
            SAM_ORDERS if name == SAM[0] else None,
            A=A,
            B=other,
        )


def _orders(
    chip: Chip,
    name: str,
    statement: str,
    expected: Callable[[Mapping[str, Any]], Any],
    sam: Mapping[str, int] | int | None = None,
    **operands: Any,
) -> Iterator[Case]:
    """Yield the orders of a statement in one kernel, then what is picked, which may be several;
    ``sam`` is a bound of each order, or of the picked one.
    """
    picked = chip.explain(statement, **operands).plans
    names = []
    for loops in permutations(sorted(parse(statement).indices)):
        try:
            plans = chip.explain(statement, order=loops, **operands).plans
        except ValueError:
            continue
        if len(plans) > 1 or not plans[0].fits or plans[0].cycles > LIMIT:
            continue
        order = "".join(loops)
        names.append(f"{name}, {order}")
        bound: Bound = Below(sam[order]) if isinstance(sam, Mapping) else Unbounded()
        yield _case(names[-1], statement, order, operands, expected, bound)
    limit = AsFastest(tuple(names), SHARE, sam if isinstance(sam, int) else None)
    chosen = f"{name}, picked: {','.join(''.join(plan.loops) for plan in picked)}"
    yield _case(chosen, statement, None, operands, expected, limit)


def _case(
    name: str,
    statement: str,
    order: str | None,
    operands: Mapping[str, Any],
    expected: Callable[[Mapping[str, Any]], Any],
    bound: Bound,
) -> Case:
    return Case(
        name=name,
        statement=statement,
        order=order,
        operands=operands,
        expected=lambda: expected(operands),
        bound=bound,
    )


def sampled(operands: Mapping[str, Any]) -> Any:
    """Return SDDMM by SciPy, one column of c at a time."""
    A, c, d = operands["A"].tocoo(), operands["c"], operands["d"]
    rows, columns = A.coords
    values = A.data * (c[rows] * d.T[columns]).sum(axis=1)
    return sp.csr_array(sp.coo_array((values, (rows, columns)), A.shape))


def like(A: sp.csr_array, rng: np.random.Generator) -> sp.csr_array:
    """Return a matrix with as many nonzeros, at random places."""
    at = rng.integers(0, A.shape[0] * A.shape[1], A.nnz)
    at = np.unique(at)
    rows, columns = np.divmod(at, A.shape[1])
    return sp.csr_array((nonzeros(len(at), rng), (rows, columns)), shape=A.shape)
