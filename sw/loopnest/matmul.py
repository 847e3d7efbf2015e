"""``A @ B`` of matrices, vectors and stacks of them, as an einsum.

Modes of size 1 that only broadcast are left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from .formats.levels import MAX_ORDER
from .formats.tensor import Tensor

STACKS = "abcdefgh"
"""The indices of stacks, outermost first; those of the matrices are i, k and j."""


def matmul_einsum(A: Any, B: Any) -> tuple[str, Any, Any]:
    """Return the subscripts of ``A @ B`` by the rules of `numpy.matmul`, and its operands.

    Parameters
    ----------
    A, B : Tensor, scipy.sparse array or NDArray
        Of order 1 or more. A vector is a row on the left and a column on the right; the modes in
        front of the last two broadcast.

    Raises
    ------
    ValueError
        For a number, sizes that do not match, or a result of too many modes.
    """
    for name, operand in (("A", A), ("B", B)):
        if not operand.shape:
            raise ValueError(f"matmul: {name} is a number: expected at least one dimension")
    shapes = f"matmul of shapes {tuple(A.shape)} and {tuple(B.shape)}"
    inner = A.shape[-1], B.shape[-2 if len(B.shape) > 1 else 0]
    if inner[0] != inner[1]:
        raise ValueError(f"{shapes}: {inner[0]} columns and {inner[1]} rows: expected the same")
    rows, columns = "i" * (len(A.shape) > 1), "j" * (len(B.shape) > 1)
    stacks = [tuple(operand.shape[:-2]) for operand in (A, B)]
    rank = max(map(len, stacks))
    if rank + len(rows) + len(columns) > MAX_ORDER:
        raise ValueError(f"{shapes}: expected a result of order up to {MAX_ORDER}")
    left, right = ((None,) * (rank - len(stack)) + stack for stack in stacks)
    kept: list[str] = ["", ""]
    dropped: list[list[int]] = [[], []]
    for axis, sizes in enumerate(zip(left, right, strict=True)):
        there = [n for n in sizes if n is not None]
        if len(set(there) - {1}) > 1:
            raise ValueError(f"{shapes}: stacks of {sizes[0]} and {sizes[1]} do not broadcast")
        for n, (size, stack) in enumerate(zip(sizes, stacks, strict=True)):
            if size == 1 and max(there, key=lambda size: size != 1) != 1:
                dropped[n].append(axis - rank + len(stack))
            elif size is not None:
                kept[n] += STACKS[axis]
    both = "".join(sorted(set(kept[0] + kept[1])))
    subscripts = f"{kept[0]}{rows}k,{kept[1]}k{columns}->{both}{rows}{columns}"
    return subscripts, _without_modes(A, dropped[0]), _without_modes(B, dropped[1])


def _without_modes(source: Any, modes: Sequence[int]) -> Any:
    """Return an operand without modes of size 1."""
    if not modes:
        return source
    kept = [m for m in range(len(source.shape)) if m not in modes]
    shape = tuple(source.shape[m] for m in kept)
    if isinstance(source, Tensor):
        by_mode, stored = source.stored_entries()
        levels = [
            kind
            for kind, mode in zip(source.levels, source.mode_order, strict=True)
            if mode in kept
        ]
        tensor = Tensor.from_stored(
            shape, levels, [by_mode[m] for m in kept], stored,
            dtype=source.dtype, wide=source.wide,
            mode_order=[kept.index(m) for m in source.mode_order if m in kept],
        )  # fmt: skip
        tensor.levels_chosen = source.levels_chosen
        return tensor
    if sp.issparse(source):
        coo = source.tocoo()
        return sp.coo_array((coo.data, tuple(coo.coords[m] for m in kept)), shape)
    return np.reshape(source, shape)
