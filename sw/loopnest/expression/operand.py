"""The user's operands, and their packing for a loop order.

Arrays and scipy.sparse arrays are packed in the order of the loops; a `Tensor` is used unchanged if
the loops can walk its levels, and is otherwise converted on the host.
"""

from collections.abc import Collection, Sequence
from math import ceil, isfinite, isnan, log2
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..formats import numbers
from ..formats.layouts import storable
from ..formats.pack import COMPRESSED, DENSE
from ..formats.profile import Profile, take_profile
from ..formats.tensor import Tensor, sparse_levels
from ..lazy import lazy
from .notation import Access
from .sources import as_source, bound, check_real, warn_beyond
from .stored import Stored


class Operand:
    """An argument of `Chip.compute`, not yet packed.

    Raises
    ------
    TypeError
        For an argument that is not a tensor, array or number, or has complex values.
    ValueError
        For a tensor of another number format than the chip's, or an inconsistent one.

    Attributes
    ----------
    zeros : float or None
        Of a dense operand that is stored compressed (`without`), the share that is left out.
    notes : tuple of str
        Of which of its indices coordinates are left out (`compact`), and whether rows are divided
        (`virtual`), in words.
    origin : (Operand, float) or None
        That operand, and the value that is left out.
    fixed : bool
        Whether no run brings another one: it is made of a user's, for whose entries alone the
        kernels are right.
    virtual : int
        How many of its first rows are parts of heavy ones (`virtual`).
    """

    fixed = False
    virtual = 0

    def __init__(self, name: str, source: Any, dtype: NumberFormat) -> None:
        self.name = name
        self.dtype = dtype
        self.source = source = as_source(name, source)
        if isinstance(source, Tensor):
            self.source = source = bound(name, source, dtype)
        else:
            check_real(name, source)
        self.shape: tuple[int, ...] = tuple(int(n) for n in self.source.shape)
        self.zeros: float | None = None
        self.notes: tuple[str, ...] = ()
        self.origin: tuple[Operand, float] | None = None
        self._profiles: dict[tuple[tuple[str, ...], tuple[int, ...]], Profile] = {}
        self._totals: dict[tuple[tuple[str, ...], tuple[int, ...]], Profile] = {}
        self._without: dict[float, tuple[float, Operand | None]] = {}
        self._stored_as: dict[Operand, Operand] = {}

    def warn_beyond(self) -> None:
        """Warn of values that the chip stores as infinity."""
        warn_beyond(self.name, self.source, self.dtype)

    @property
    def nnz(self) -> int:
        """The number of stored entries; all of an array are."""
        if isinstance(self.source, Tensor) or sp.issparse(self.source):
            return int(self.source.nnz)
        return int(self.source.size)

    @property
    def empty(self) -> bool:
        """Whether it is known to have no entries."""
        if not self.known or not self.sparse:
            return False
        source = self.source
        return not (source.values.size if isinstance(source, Tensor) else source.nnz)

    @property
    def scale(self) -> float:
        """How many entries each of its `coordinates` stands for: 1, unless they are a sample."""
        return 1.0

    @property
    def in_memory(self) -> bool:
        """Whether it is a result that stays in the chip's memory, unless it has to be converted."""
        return False

    @property
    def known(self) -> bool:
        """Whether its values are known: not those of a result to come."""
        return True

    @property
    def wide(self) -> bool:
        """Whether its values are wide; only those of a `Tensor` can be."""
        return isinstance(self.source, Tensor) and self.source.wide

    @property
    def sparse(self) -> bool:
        """Whether it has a compressed level."""
        if isinstance(self.source, Tensor):
            return COMPRESSED in self.source.levels
        return sp.issparse(self.source)

    @property
    def given(self) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
        """Levels and mode order of a `Tensor`; None if every kernel may have its own."""
        if isinstance(self.source, Tensor):
            return self.source.levels, self.source.mode_order
        return None

    @property
    def is_view(self) -> bool:
        """Whether loops walk it as a view of another operand."""
        return False

    @property
    def identity(self) -> int:
        """A number that operands of the same values share."""
        return id(self.source)

    def stored(
        self,
        access: Access,
        loops: Sequence[str],
        *,
        dense: Collection[str] = (),
        compress: bool = False,
    ) -> Stored:
        """Return its levels for these loops.

        Parameters
        ----------
        dense : collection of str
            Indices whose levels have to be dense.
        compress : bool
            Store a sparse operand with compressed levels only.
        """
        inward = tuple(sorted(access.indices, key=loops.index))
        sizes = dict(zip(access.indices, self.shape, strict=True))

        def levels_of(kinds: Sequence[str], indices: tuple[str, ...]) -> Stored:
            fixed = tuple(
                DENSE if i in dense else kind for kind, i in zip(kinds, indices, strict=True)
            )
            return Stored(access, fixed, indices, tuple(sizes[i] for i in indices))

        if not self.sparse and self.given is None:
            return levels_of((DENSE,) * len(inward), inward)
        if self.sparse and compress:
            return levels_of((COMPRESSED,) * len(inward), inward)
        if self.given is not None:
            kinds, modes = self.given
            own = tuple(access.indices[m] for m in modes)
            # without ``dense``: the levels that are left may not tell what is absent
            if Stored(access, kinds, own, tuple(sizes[i] for i in own)).walks(loops):
                return levels_of(kinds, own)
            if DENSE not in kinds:
                return levels_of(kinds, inward)
        return levels_of(sparse_levels(len(inward)), inward)

    def converted(self, stored: Stored) -> bool:
        """Return whether the given levels have to be converted to these."""
        return self.given is not None and self.given != stored.packing

    @lazy
    def bounds(self) -> tuple[float, float]:
        """The least and the largest stored value, NaN where one is; 0 and 0 where none is."""
        if isinstance(self.source, Tensor):
            values = numbers.decode(self.source.values)
        else:
            values = self.source.data if sp.issparse(self.source) else self.source
        if not values.size:
            return 0.0, 0.0
        return float(np.min(values)), float(np.max(values))

    def assume(self, bits: int) -> None:
        """Plan for values up to the next power of two whose exponent is a multiple of ``bits`` (on
        an int8 chip, for all), instead of those that it has.
        """
        low, high = self.bounds
        if isnan(low) or isnan(high):
            return
        if self.dtype is NumberFormat.INT8 and not self.wide:
            largest = 128.0
        else:
            largest = max(1.0, -low, high)
            if isfinite(largest):
                largest = 2.0 ** (bits * ceil(log2(largest) / bits))
        self.assume_bounds(0.0 if low >= 0 else -largest, largest)

    def assume_bounds(self, low: float, high: float) -> None:
        """Plan for values between these."""
        # `lazy` computes what is not there yet
        self.__dict__["bounds"] = low, high

    def without(self, zero: float, least: float) -> "Operand | None":
        """Return a dense operand with compressed levels, which lack the entries that are ``zero``;
        None where it is sparse, has levels that someone chose, or a smaller share of zeros than
        ``least``.
        """
        source = self.source
        fixed = isinstance(source, Tensor) and (source.wide or source.levels_chosen)
        if not self.known or self.sparse or fixed or not source.shape:
            return None
        if zero not in self._without:
            array = source.to_dense() if isinstance(source, Tensor) else source
            kept = array != zero
            found = None
            share = 1 - np.count_nonzero(kept) / max(1, kept.size)
            if share >= least:
                few = max(kept.shape) <= np.iinfo(np.int32).max
                kind = np.int32 if few else np.int64
                entries = tuple(column.astype(kind) for column in np.nonzero(kept))
                values = storable(array[entries])
                found = self.with_source(sp.coo_array((values, entries), array.shape))
                found.zeros, found.origin = share, (self, zero)
            self._without[zero] = share, found
        share, found = self._without[zero]
        if found is None and share >= least:  # it was asked for a larger share before
            del self._without[zero]
            return self.without(zero, least)
        return found if share >= least else None

    def stored_as(self, other: "Operand") -> "Operand":
        """Return the operand with the source of another one that has the same values: always the
        same object, since it keeps what is counted of it.
        """
        if other not in self._stored_as:
            found = self._stored_as[other] = self.with_source(other.source)
            found.zeros = other.zeros
            if other.origin is not None:
                found.origin = self, other.origin[1]
        return self._stored_as[other]

    def with_source(self, source: Any) -> "Operand":
        """Return an operand of that name with another source."""
        found = Operand(self.name, source, self.dtype)
        found.notes = self.notes
        return found

    def profile(self, stored: Stored) -> Profile:
        """Return the counts of its levels when stored this way."""
        key = (stored.levels, stored.mode_order)
        if key not in self._profiles:
            by_mode = self.coordinates() if COMPRESSED in stored.levels else None
            by_level = None if by_mode is None else [by_mode[m] for m in stored.mode_order]
            self._profiles[key] = take_profile(
                self, stored.levels, stored.sizes, by_level, self.scale
            )
        return self._profiles[key]

    def counted(self, stored: Stored) -> Profile:
        """Return the counts of whole levels when stored this way, which are never forgotten."""
        return self._totals.get((stored.levels, stored.mode_order)) or self.profile(stored)

    def forget_counts(self) -> None:
        """Drop what was counted but for the totals: it takes several times the memory of the
        entries, and is counted again where it is asked for.
        """
        self._totals |= {key: profile.totals() for key, profile in self._profiles.items()}
        self._profiles.clear()
        self.__dict__.pop("_by_mode", None)
        of_zeros = (other for _, other in self._without.values() if other is not None)
        for other in (*of_zeros, *self._stored_as.values()):
            other.forget_counts()

    def coordinates(self) -> list[NDArray[np.int64]] | None:
        """Return the stored entries' coordinates by mode; None if every coordinate is stored."""
        return None if self._by_mode is None else list(self._by_mode)

    @lazy
    def _by_mode(self) -> list[NDArray[np.int64]] | None:
        if isinstance(self.source, Tensor):
            return self.source.stored_entries()[0]
        if sp.issparse(self.source):
            return [np.asarray(c, np.int64) for c in self.source.tocoo().coords]
        return None

    def pack(self, stored: Stored) -> Tensor:
        """Return the operand as a kernel reads it (`packed`)."""
        return self.packed(*stored.packing)

    def packed(self, levels: Sequence[str], modes: Sequence[int]) -> Tensor:
        """Return the operand with these levels, which store the modes in this order.

        Raises
        ------
        ValueError
            For a value that an int8 chip cannot represent, or if the operand is too large; the
            message names it.
        """
        if isinstance(self.source, Tensor):
            # what is stored does not depend on the loops' order: a zero may not be the semiring's
            return self.source.convert(levels, modes, keep_zeros=True)
        make = Tensor.from_scipy if sp.issparse(self.source) else Tensor.from_dense
        try:
            return numbers.without_warnings(
                lambda: make(self.source, levels=levels, mode_order=modes, dtype=self.dtype)
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name}: {error}") from None
