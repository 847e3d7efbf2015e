"""An operand that is not computed yet: everything that planning needs, without values."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..formats.pack import COMPRESSED
from ..lazy import lazy
from .operand import Operand

Coordinates = Sequence[NDArray]

Layout = tuple[tuple[str, ...], tuple[int, ...]]
"""Levels, and the mode that each one stores."""


def in_order(levels: Sequence[str]) -> Layout:
    """Return levels in the order of the modes."""
    return tuple(levels), tuple(range(len(levels)))


class Expected(Operand):
    """The expected result of an intermediate.

    Parameters
    ----------
    coordinates : sequence of arrays, or callable that returns them, optional
        Of the expected entries by mode, for a compressed tensor; None for a dense one. Called when
        a plan first asks for them.
    scale : callable, optional
        Returns how many entries each of these stands for, if they are a sample.
    layout : (levels, mode order), optional
        The levels that it will have; None if every kernel may have its own.
    wide : bool
        Whether its values will be wide.
    bounds : (float, float)
        What its values are sure to lie between.
    in_memory : bool
        Whether it has the layout in which the chip writes it.

    Attributes
    ----------
    panels : tuple or None
        The mode along which it is joined from other results, and these, each with the range of its
        coordinates.
    """

    panels: "tuple[int, tuple[tuple[int, int, Expected], ...]] | None" = None

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        dtype: NumberFormat,
        coordinates: Coordinates | Callable[[], Coordinates] | None,
        *,
        scale: Callable[[], float] | None = None,
        layout: Layout | None = None,
        wide: bool = True,
        bounds: tuple[float, float] = (0.0, 0.0),
        in_memory: bool = False,
    ) -> None:
        self.name, self.dtype, self.source = name, dtype, None
        self.shape = tuple(shape)
        self._find, self._find_scale = coordinates, scale
        self._layout = layout
        self._wide, self._bounds, self._in_memory = wide, bounds, in_memory
        self.zeros, self.origin, self.notes = None, None, ()
        self._profiles, self._totals = {}, {}

    def learn(self, sample: NDArray | None, bound: float | None) -> None:
        """Plan for the entries that an example of it has, and for values within a bound."""
        if sample is not None and self.sparse:
            by_mode = np.nonzero(sample)
            self._find, self._find_scale = (lambda: by_mode), None
        if bound is not None:
            low, high = self._bounds
            self._bounds = max(low, -bound), min(high, bound)

    def __getstate__(self) -> dict[str, Any]:
        # how the coordinates are found may not be picklable
        found = self._coordinates if self.sparse else None
        return self.__dict__ | {"_find": found, "scale": self.scale, "_find_scale": None}

    @classmethod
    def of(cls, operand: Operand) -> "Expected":
        """Return what planning sees of an operand that is no view, with free levels."""
        return cls(
            operand.name,
            operand.shape,
            operand.dtype,
            operand.coordinates if operand.sparse else None,  # type: ignore[arg-type]
            scale=lambda: operand.scale,
            wide=operand.wide,
            bounds=operand.bounds,
        )

    def reshaped(
        self,
        shape: Sequence[int],
        change: Callable[[Coordinates], Coordinates],
        layout: Layout | None = None,
    ) -> "Expected":
        """Return it with other modes, ``change`` being what becomes of its coordinates; with this
        layout where its own is given.
        """
        return Expected(
            self.name,
            shape,
            self.dtype,
            (lambda: change(self._coordinates)) if self.sparse else None,
            scale=lambda: self.scale,
            layout=None if self._layout is None else layout,
            wide=self.wide,
            bounds=self.bounds,
        )

    def narrowed(self) -> "Expected":
        """Return it with narrow values of 0 and 1."""
        found = self.reshaped(self.shape, lambda by_mode: by_mode, self._layout)
        found._wide, found._bounds = False, (0.0, 1.0)
        return found

    def pattern(self) -> "Expected":
        """Return its entries as a mask."""

        def every() -> Coordinates:
            return [places.reshape(-1) for places in np.indices(self.shape)]

        return Expected(
            self.name,
            self.shape,
            self.dtype,
            (lambda: self._coordinates) if self.sparse else every,
            scale=lambda: self.scale,
            wide=False,
            bounds=(0.0, 1.0),
        )

    def panels_of(self, mode: int, ranges: Sequence[tuple[int, int]]) -> "list[Expected] | None":
        """Return the results that it is joined from, where they have these ranges of coordinates
        of a mode.
        """
        if self.panels is None or self.panels[0] != mode:
            return None
        found = [part for *_, part in self.panels[1]]
        return found if [(a, b) for a, b, _ in self.panels[1]] == list(ranges) else None

    def sliced(self, mode: int) -> "Expected":
        """Return the approximate operand at one coordinate of a mode."""
        shape = [size for m, size in enumerate(self.shape) if m != mode]
        step = max(1, self.shape[mode])
        if not shape:
            return Expected(self.name, shape, self.dtype, None, wide=self.wide, bounds=self.bounds)
        return self.reshaped(shape, lambda by_mode: [c[::step] for c in _but(by_mode, mode)])

    def warn_beyond(self) -> None:
        """Do nothing: the chip computes its values."""

    @property
    def in_memory(self) -> bool:
        """Whether it stays in the chip's memory, unless it has to be converted."""
        return self._in_memory

    @property
    def known(self) -> bool:
        """Whether its values are known."""
        return False

    def without(self, zero: float, least: float) -> None:
        """Return None: an intermediate has the levels that its kernel gives it."""
        return None

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        """What its values are sure to lie between."""
        return self._bounds

    @property
    def nnz(self) -> int:
        """The expected number of entries."""
        return round(self.scale * len(self._coordinates[0])) if self.sparse else prod(self.shape)

    @property
    def wide(self) -> bool:
        """Whether its values will be wide."""
        return self._wide

    @property
    def sparse(self) -> bool:
        """Whether it will have a compressed level."""
        return self._find is not None and (self._layout is None or COMPRESSED in self._layout[0])

    @property
    def given(self) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
        """Levels and mode order that it will have; None if every kernel may have its own."""
        return self._layout

    @property
    def identity(self) -> int:
        """A number of its own."""
        return id(self)

    @lazy
    def scale(self) -> float:
        """How many entries each of the coordinates stands for."""
        return self._find_scale() if self._find_scale is not None and self.sparse else 1.0

    @lazy
    def _coordinates(self) -> Coordinates:
        assert self._find is not None
        return self._find() if callable(self._find) else self._find

    def coordinates(self) -> list[NDArray] | None:
        """Return the expected entries' coordinates by mode; None for a dense operand."""
        return list(self._coordinates) if self.sparse else None


def _but(by_mode: Coordinates, mode: int) -> list[NDArray]:
    return [c for m, c in enumerate(by_mode) if m != mode]
