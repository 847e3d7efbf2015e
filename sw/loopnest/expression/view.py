"""Views of operands: coordinates that are sums of indices.

``x[i+j]`` is a sliding window of x, ``A[i,i]`` a diagonal, ``x[2*i]`` every other element. Nothing
is copied: each index moves through the same values with its own step. So the levels of such modes
are dense and outermost; compressed ones below them are scanned as usual.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.pack import COMPRESSED, DENSE, spans
from ..formats.profile import Profile, take_profile
from .notation import Access
from .operand import Operand
from .sizes import place_range
from .split import OneKernelError
from .stored import Stored

MAX_SHOWN = 1 << 22
"""Maximum entries of a view of a sparse operand that no loops can walk (`shown.look`)."""

MAX_NODES, MAX_ENTRIES = 1 << 18, 1 << 18
"""Approximate numbers of a view's outer coordinates, and of its entries there, that the cost model
counts; of more it takes a random sample.
"""


@dataclass(frozen=True)
class StoredView(Stored):
    """The levels that loops walk: one for each index of the packed tensor's outer dense levels,
    then its other levels.

    ``steps`` are those of the cells; the packed tensor has ``packed_levels`` and ``packed_order``,
    of which the first ``outer`` are accessed through the view.
    """

    steps: tuple[int, ...]
    first: int
    packed_levels: tuple[str, ...]
    packed_order: tuple[int, ...]
    outer: int

    def step(self, level: int) -> int:
        """Return the step of the level's cell."""
        return self.steps[level]

    def packed_level(self, level: int) -> int:
        """Return the level of the packed tensor that a compressed level is."""
        return level - len(self.levels) + len(self.packed_levels)

    @property
    def start(self) -> int:
        """Position in front of the outermost level; negative where the view begins in front of the
        tensor.
        """
        return self.first

    @property
    def packing(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Levels and mode order of the packed tensor."""
        return self.packed_levels, self.packed_order


class View(Operand):
    """The view ``access`` of an operand; ``sizes`` are those of the indices.

    ``viewed`` are the modes that are not accessed by an index of their own, or only in part.
    ``leaves`` is whether it has coordinates outside the tensor: only a mask may keep them out.
    """

    def __init__(self, base: Operand, access: Access, sizes: Mapping[str, int]) -> None:
        self.name, self.dtype, self.source = access.name, base.dtype, base.source
        self.base = base
        self.zeros, self.origin, self.notes = None, None, ()
        self._profiles, self._totals, self._without, self._stored_as = {}, {}, {}, {}
        self.access, self.sizes = access, sizes
        assert access.places is not None
        self.shape = tuple(sizes[i] for i in access.indices)
        self._places = access.places
        seen = [i for place in access.places for i, _ in place.terms]
        self.viewed = [
            m
            for m, (place, size) in enumerate(zip(access.places, base.shape, strict=True))
            if place.plain is None or seen.count(place.plain) > 1 or sizes[place.plain] != size
        ]
        every = {i: (0, sizes[i] - 1) for i in access.indices}
        self.leaves = 0 not in self.shape and any(
            least < 0 or most >= size
            for (least, most), size in zip(
                (place_range(place, every) for place in access.places), base.shape, strict=True
            )
        )

    def of(self, base: Operand) -> "View":
        """Return the same view of another operand."""
        return View(base, self.access, self.sizes)

    def with_source(self, source: Any) -> "View":
        """Return the view of an operand of this name with another source."""
        return self.of(self.base.with_source(source))

    @property
    def is_view(self) -> bool:
        """True."""
        return True

    @property
    def nnz(self) -> int:
        """The number of entries of what is viewed."""
        return self.base.nnz

    @property
    def scale(self) -> float:
        """How many entries each of its `coordinates` stands for."""
        return self.base.scale

    @property
    def in_memory(self) -> bool:
        """Whether what is viewed stays in the chip's memory."""
        return self.base.in_memory

    @property
    def known(self) -> bool:
        """Whether the values of what is viewed are known."""
        return self.base.known

    @property
    def wide(self) -> bool:
        """Whether its values are wide."""
        return self.base.wide

    @property
    def sparse(self) -> bool:
        """Whether it has a compressed level."""
        return self.base.sparse

    @property
    def given(self) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
        """Levels and mode order of what is viewed; None if every kernel may have its own."""
        return self.base.given

    @property
    def identity(self) -> int:
        """A number that operands of the same values share."""
        return self.base.identity

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        """The least and the largest value of what is viewed."""
        return self.base.bounds

    def coordinates(self) -> list[NDArray[np.int64]] | None:
        """Return the coordinates of what is viewed (`Operand.coordinates`)."""
        return self.base.coordinates()

    def stored(
        self,
        access: Access,
        loops: Sequence[str],
        *,
        dense: Collection[str] = (),
        compress: bool = False,
    ) -> StoredView:
        """Return the levels for these loops (`Operand.stored`).

        Raises
        ------
        OneKernelError
            If the loops cannot walk them, or if no level of a sparse operand can stay compressed.
        """
        alone = len(self.viewed) < len(self._places)
        if self.sparse and not alone and not set(access.indices) <= set(dense):
            raise OneKernelError(
                f"{access}: {access.tensor} is sparse: expected a dense operand, an index that "
                f"stands alone, or a view that shows up to {MAX_SHOWN:,} entries"
            )
        kinds, modes = self._packing(loops)
        if dense:
            plain = [self._places[mode].plain for mode in modes]
            kinds = tuple(DENSE if i in dense else k for i, k in zip(plain, kinds, strict=True))
        outer = (*kinds, COMPRESSED).index(COMPRESSED)
        shape = self.base.shape
        span = spans([shape[m] for m in modes], kinds)
        steps: dict[str, int] = {}
        first = 0
        for level, mode in enumerate(modes[:outer]):
            first += self._places[mode].offset * span[level + 1]
            for index, factor in self._places[mode].terms:
                steps[index] = steps.get(index, 0) + factor * span[level + 1]
        inner = [self._places[mode].plain for mode in modes[outer:]]
        indices = (*steps, *(i for i in inner if i is not None))
        sizes = dict(zip(access.indices, self.shape, strict=True))
        found = StoredView(
            access=access,
            levels=(*(DENSE for _ in steps), *kinds[outer:]),
            indices=indices,
            sizes=tuple(sizes[i] for i in indices),
            # that of an index of size 1 is never taken, and may be larger than any position
            steps=(*(step if sizes[i] > 1 else 0 for i, step in steps.items()), *span[outer + 1 :]),
            first=first,
            packed_levels=kinds,
            packed_order=modes,
            outer=outer,
        )
        if not found.walks(loops):
            raise OneKernelError(
                f"order {''.join(loops)!r}: {access} has the loops {''.join(steps)} outside its "
                f"compressed levels"
            )
        return found

    def profile(self, stored: Stored) -> Profile:
        """Return the counts of the view's levels."""
        assert isinstance(stored, StoredView)
        key = (stored.levels, stored.mode_order)
        if key not in self._profiles:
            by_mode = self.coordinates() if COMPRESSED in stored.levels else None
            coordinates, scale = None, 1.0
            if by_mode is not None:
                coordinates, scale = self._viewed_entries(stored, by_mode)
            self._profiles[key] = take_profile(
                self, stored.levels, stored.sizes, coordinates, scale
            )
        return self._profiles[key]

    def _packing(self, loops: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return levels and mode order of the packed tensor."""
        modes = range(len(self._places))
        if self.given is not None:
            levels, order = self.given
            outer = (*levels, COMPRESSED).index(COMPRESSED)
            if set(self.viewed) <= set(order[:outer]):
                return levels, order
        if not self.sparse:
            return (DENSE,) * len(modes), tuple(modes)

        def depth(mode: int) -> int:
            index = self._places[mode].plain
            assert index is not None
            return loops.index(index)

        plain = sorted((m for m in modes if m not in self.viewed), key=depth)
        kinds = (DENSE,) * len(self.viewed) + (COMPRESSED,) * len(plain)
        return kinds, (*self.viewed, *plain)

    def _viewed_entries(
        self, stored: StoredView, by_mode: Sequence[NDArray[np.int64]]
    ) -> tuple[list[NDArray[np.int64]], float]:
        """Return the coordinates of the view's entries by level: those of the tensor, repeated for
        each place in the view. Of many it is a sample, with the number that each stands for.
        """
        modes = stored.packed_order
        shape = [self.base.shape[m] for m in modes[: stored.outer]]
        loops = len(stored.levels) - (len(modes) - stored.outer)
        nodes = prod(stored.sizes[:loops])
        draw = np.random.default_rng(0)
        if nodes <= MAX_NODES:
            every = np.arange(nodes)
        else:
            every = np.unique(draw.integers(0, nodes, MAX_NODES))
        walked = np.unravel_index(every, stored.sizes[:loops]) if loops else ()
        at = dict(zip(stored.indices, walked, strict=False))
        node = np.zeros(len(every), np.int64)
        for size, mode in zip(shape, modes, strict=False):
            place = self._places[mode]
            node = node * size + place.offset + sum(f * at[i] for i, f in place.terms)
        entry_node = np.zeros(len(by_mode[0]), np.int64)
        for size, mode in zip(shape, modes, strict=False):
            entry_node = entry_node * size + by_mode[mode]
        order = np.argsort(entry_node, kind="stable")
        begin = np.searchsorted(entry_node, node, sorter=order)
        count = np.searchsorted(entry_node, node, side="right", sorter=order) - begin
        some = np.arange(len(every))
        if count.sum() > MAX_ENTRIES:
            some = some[draw.random(len(some)) < MAX_ENTRIES / count.sum()]
        begin, count = begin[some], count[some]
        shown = np.repeat(np.arange(len(some)), count)
        number = np.arange(len(shown)) - (np.cumsum(count) - count)[shown]
        entry = order[begin[shown] + number]
        outer = [coordinate[some][shown] for coordinate in walked]
        inner = [by_mode[mode][entry] for mode in modes[stored.outer :]]
        scale = self.base.scale * nodes / max(1, len(some))
        return [np.asarray(c, np.int64) for c in (*outer, *inner)], scale
