"""Fuses indices that always occur together, for fewer loops and fewer levels to scan. Indices that
the same tensors have become one index over the product of their sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..formats import panels
from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import Tensor, sparse_levels
from ..named import named
from .expected import Expected, in_order
from .notation import Access, Statement
from .operand import Operand

MAX_FUSIONS = 8
"""Maximum number of ways to fuse indices that are compared."""

MAX_SEEN = 256
"""Maximum number of ways from which these are taken."""

Groups = tuple[tuple[str, ...], ...]


@named
@dataclass(frozen=True)
class Fusion:
    """Groups of indices; each group is replaced by its first index."""

    groups: Groups

    def statement(self, statement: Statement) -> Statement:
        """Return the statement with one index for each group."""
        return statement.with_accesses(self.access)

    def access(self, access: Access) -> Access:
        """Return the access with one index for each group; views have none."""
        if access.places is not None:
            return access
        return Access(access.name, tuple(group[0] for group in self._columns(access.indices)))

    def levels(self, result: Access, levels: Sequence[str]) -> tuple[str, ...]:
        """Return the fused result's levels, compressed where those of ``result`` are."""
        rank = len(self._columns(result.indices))
        return sparse_levels(rank) if COMPRESSED in levels else (DENSE,) * rank

    def loops(self, order: Sequence[str]) -> list[str]:
        """Return the loops, each group at the place of its first index."""
        inner = {i for group in self.groups for i in group[1:]}
        return [i for i in order if i not in inner]

    def operand(self, access: Access, operand: Operand) -> Operand:
        """Return the operand with its modes fused; a view is unchanged."""
        if access.places is not None:
            return operand
        groups = self._columns(access.indices)
        modes = [[access.indices.index(i) for i in group] for group in groups]
        shapes = [tuple(operand.shape[m] for m in group) for group in modes]
        shape = tuple(map(prod, shapes))
        source = operand.source

        def fused(by_mode: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
            return [
                np.ravel_multi_index([by_mode[m] for m in group], sizes)
                for group, sizes in zip(modes, shapes, strict=True)
            ]

        if isinstance(operand, Expected):
            levels = sparse_levels(len(shape)) if operand.sparse else (DENSE,) * len(shape)
            return operand.reshaped(shape, fused, in_order(levels))
        if isinstance(source, Tensor):
            by_mode, stored = source.stored_entries()
            levels = sparse_levels(len(shape)) if operand.sparse else (DENSE,) * len(shape)
            source = Tensor.from_stored(
                shape, levels, fused(by_mode), stored, dtype=source.dtype, wide=source.wide
            )
        elif sp.issparse(source):
            coo = source.tocoo()
            coordinates = fused([np.asarray(c, np.int64) for c in coo.coords])
            source = sp.coo_array((coo.data, tuple(coordinates)), shape)
        else:
            source = source.transpose([m for group in modes for m in group]).reshape(shape)
        return Operand(operand.name, source, operand.dtype)

    def unfuse(self, result: Access, tensor: Tensor, sizes: Mapping[str, int]) -> Tensor:
        """Return a result of the fused statement as that of the statement, ``result`` on its left.

        A level becomes levels of its own kind, the outer ones dense.
        """
        groups = self._columns(result.indices)
        by_group, stored = tensor.stored_entries()
        column: dict[str, NDArray[np.int64]] = {}
        for group, fused in zip(groups, by_group, strict=True):
            parts = np.unravel_index(fused, [sizes[i] for i in group])
            column |= zip(group, parts, strict=True)
        rank = len(result.indices)
        return Tensor.from_stored(
            tuple(sizes[i] for i in result.indices),
            sparse_levels(rank) if COMPRESSED in tensor.levels else (DENSE,) * rank,
            [column[i] for i in result.indices],
            stored,
            dtype=tensor.dtype,
            wide=tensor.wide,
        )

    def _columns(self, indices: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the groups and the single indices, in the order of their first ones."""
        group_of = {i: group for group in self.groups for i in group}
        return list(dict.fromkeys(group_of.get(i, (i,)) for i in indices))


def find_fusions(statement: Statement, sizes: Mapping[str, int]) -> list[Fusion]:
    """Return the ways to fuse indices that always occur together, those with the fewest loops
    first; none if there are no such indices.
    """
    tensors = (statement.result, *statement.accesses)
    viewed = {i for access in tensors if access.places is not None for i in access.indices}
    together: dict[frozenset[int], list[str]] = {}
    for index in statement.indices:
        if index not in viewed:
            having = frozenset(n for n, access in enumerate(tensors) if index in access.indices)
            together.setdefault(having, []).append(index)
    ways = product(*(_groupings(alike, sizes) for alike in together.values()))
    joined = (tuple(g for groups in way for g in groups) for way in islice(ways, MAX_SEEN))
    found = sorted(joined, key=len)[:MAX_FUSIONS]
    fused = (tuple(group for group in way if len(group) > 1) for way in found)
    return [Fusion(groups) for groups in fused if groups]


def _groupings(indices: Sequence[str], sizes: Mapping[str, int]) -> list[Groups]:
    """Return the ways to group indices such that no group has more coordinates than a loop."""
    ways: list[Groups] = [()]
    for index in indices:
        ways = [
            (*way[:n], (*group, index), *way[n + 1 :])
            for way in ways
            for n, group in enumerate((*way, ()))
            if prod(sizes[i] for i in (*group, index)) <= panels.PANEL or not group
        ]
    return ways
