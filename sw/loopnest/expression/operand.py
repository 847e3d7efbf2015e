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

from ..cost.profile import Profile, take_profile
from ..formats import numbers
from ..formats.pack import COMPRESSED, DENSE
from ..formats.sources import as_array
from ..formats.tensor import Tensor, sparse_levels
from ..lazy import lazy
from .notation import Access, Statement
from .stored import Stored


def as_source(name: str, source: Any) -> Any:
    """Return a `Tensor` unchanged, and anything else as a scipy.sparse array or a NumPy array.

    Raises
    ------
    TypeError, ValueError
        Naming it, for what is no tensor, array or number, or contradicts itself
        (`sources.as_array`).
    """
    if isinstance(source, Tensor):
        return source
    try:
        found = as_array(source)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if not numbers.is_real(found.dtype) and found.dtype.kind != "c":
        raise TypeError(
            f"{name} is {type(source).__name__} of {found.dtype}: expected a "
            f"scipy.sparse array, a NumPy array or a loopnest.Tensor"
        )
    return found


def statement_numbers(statement: Statement, dtype: NumberFormat) -> dict[str, Any]:
    """Return the numbers that stand in a statement, by name.

    Raises
    ------
    ValueError
        For one that an int8 chip can't hold.
    """
    found = {a.name: a.number for a in statement.accesses if a.number is not None}
    for name, number in found.items():
        if dtype is NumberFormat.INT8 and not (number == int(number) and -128 <= number <= 127):
            raise ValueError(f"number {name} in {statement}: expected an integer from -128 to 127")
    return {name: float(number) for name, number in found.items()}


def mask_operand(name: str, source: Any, dtype: NumberFormat) -> "Operand":
    """Return a mask: 1 where a sparse array or a `Tensor` has an entry, whatever its value, or
    where an array is not 0.

    Raises
    ------
    TypeError, ValueError
        As `as_source`, and for a number.
    """
    source = as_source(name, source)
    if not source.shape:
        raise ValueError(f"{name} is a number: expected an array of the result's shape")
    coordinates: Sequence[NDArray[Any]]
    if isinstance(source, Tensor):
        coordinates = source.stored_entries()[0]
    elif sp.issparse(source):
        coordinates = source.tocoo().coords
    else:
        coordinates = np.nonzero(source)
    entries = np.unique(np.stack([np.asarray(c, np.int64) for c in coordinates]), axis=1)
    pattern = sp.coo_array((np.ones(entries.shape[1], np.int8), tuple(entries)), source.shape)
    return Operand(name, pattern, dtype)


def _bound(name: str, tensor: Tensor, dtype: NumberFormat) -> Tensor:
    """Return a tensor in the chip's number format.

    Raises
    ------
    ValueError
        Naming it, if it has another format, or a value that the format can't hold.
    """
    try:
        bound = tensor.bound(dtype, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if bound.dtype is not dtype:
        assert bound.dtype is not None
        raise ValueError(f"{name} is a {bound.dtype.value} tensor: expected {dtype.value}")
    return bound


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
    left_out : tuple of str
        Of which of its indices coordinates are left out (`compact`), in words.
    origin : (Operand, float) or None
        That operand, and the value that is left out.
    """

    def __init__(self, name: str, source: Any, dtype: NumberFormat) -> None:
        self.name = name
        self.dtype = dtype
        self.source = source = as_source(name, source)
        if isinstance(source, Tensor):
            self.source = source = _bound(name, source, dtype)
        else:
            self._check_real()
        self.shape: tuple[int, ...] = tuple(int(n) for n in self.source.shape)
        self.zeros: float | None = None
        self.left_out: tuple[str, ...] = ()
        self.origin: tuple[Operand, float] | None = None
        self._profiles: dict[tuple[tuple[str, ...], tuple[int, ...]], Profile] = {}
        self._totals: dict[tuple[tuple[str, ...], tuple[int, ...]], Profile] = {}
        self._without: dict[float, tuple[float, Operand | None]] = {}
        self._stored_as: dict[Operand, Operand] = {}

    def _check_real(self) -> None:
        source = self.source
        if numbers.is_real(source.dtype):
            return
        coo = source.tocoo() if sp.issparse(source) else None
        values = source if coo is None else coo.data

        def locate(k: int) -> Sequence[int]:
            at = np.unravel_index(k, source.shape) if coo is None else [c[k] for c in coo.coords]
            return [int(c) for c in at]

        try:
            numbers.check_real(values, locate)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None

    def warn_beyond(self) -> None:
        """Warn of values that the chip stores as infinity (`numbers.warn_beyond`)."""
        source = self.source
        if self.dtype is not NumberFormat.BF16 or isinstance(source, Tensor):
            return
        if not sp.issparse(source):
            numbers.warn_beyond(
                source, False, lambda k: np.unravel_index(k, source.shape), self.name
            )
        elif source.dtype.kind == "f":
            coo = source.tocoo()
            # duplicates are summed
            if numbers.magnitude(coo.data) * coo.nnz >= 2.0**127:
                coo = coo.astype(np.promote_types(coo.dtype, np.float64))
                coo.sum_duplicates()
                numbers.warn_beyond(
                    coo.data, False, lambda k: [c[k] for c in coo.coords], self.name
                )

    @property
    def nnz(self) -> int:
        """The number of stored entries; all of an array are."""
        if isinstance(self.source, Tensor) or sp.issparse(self.source):
            return int(self.source.nnz)
        return int(self.source.size)

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
                found = self.with_source(sp.coo_array((array[entries], entries), array.shape))
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
        found.left_out = self.left_out
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

    def blocks(self, stored: Stored, level: int) -> float:
        """Return the mean number of block words of a level's fibers when stored this way."""
        found = self._totals.get((stored.levels, stored.mode_order)) or self.profile(stored)
        return found.blocks(level)

    def forget_counts(self) -> None:
        """Drop what was counted but for the totals: it takes several times the memory of the
        entries, and is counted again where it is asked for.
        """
        self._totals |= {key: profile.totals() for key, profile in self._profiles.items()}
        self._profiles.clear()
        of_zeros = (other for _, other in self._without.values() if other is not None)
        for other in (*of_zeros, *self._stored_as.values()):
            other.forget_counts()

    def coordinates(self) -> list[NDArray[np.int64]] | None:
        """Return the stored entries' coordinates by mode; None if every coordinate is stored."""
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
