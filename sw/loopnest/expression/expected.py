"""An operand that is not computed yet: everything that planning needs, without values."""

from collections.abc import Sequence

from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from .operand import Operand

Coordinates = Sequence[NDArray]


class Expected(Operand):
    """The expected result of an intermediate.

    Parameters
    ----------
    coordinates : sequence of arrays, optional
        Of the entries by mode, for a compressed tensor; None for a dense one.
    wide : bool
        Whether its values will be wide.
    """

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        dtype: NumberFormat,
        coordinates: Coordinates | None,
        *,
        wide: bool = True,
    ) -> None:
        self.name, self.dtype, self.source = name, dtype, None
        self.shape = tuple(shape)
        self.nnz = 1
        for size in self.shape:
            self.nnz *= size
        if coordinates is not None:
            self.nnz = len(coordinates[0])
        self._coordinates = None if coordinates is None else list(coordinates)
        self._wide = wide
        self.zeros = None
        self._profiles = {}

    @classmethod
    def of(cls, operand: Operand) -> "Expected":
        """Return what planning sees of an operand that is no view."""
        return cls(
            operand.name,
            operand.shape,
            operand.dtype,
            operand.coordinates() if operand.sparse else None,
            wide=operand.wide,
        )

    def reshaped(self, shape: Sequence[int], coordinates: Coordinates | None) -> "Expected":
        """Return it with other modes."""
        return Expected(self.name, shape, self.dtype, coordinates, wide=self.wide)

    def sliced(self, mode: int) -> "Expected":
        """Return the approximate operand at one coordinate of a mode."""
        shape = [size for m, size in enumerate(self.shape) if m != mode]
        coordinates = None
        if self._coordinates is not None and shape:
            step = max(1, self.shape[mode])
            coordinates = [c[::step] for m, c in enumerate(self._coordinates) if m != mode]
        return self.reshaped(shape, coordinates)

    def without(self, zero: float, least: float) -> None:
        """Return None: an intermediate has the levels that its kernel gives it."""
        return None

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        """The minimum and maximum value, which are unknown."""
        return 0.0, 0.0

    @property
    def wide(self) -> bool:
        """Whether its values will be wide."""
        return self._wide

    @property
    def sparse(self) -> bool:
        """Whether it will have a compressed level."""
        return self._coordinates is not None

    def coordinates(self) -> list[NDArray] | None:
        """Return the entries' coordinates by mode; None for a dense operand."""
        return self._coordinates
