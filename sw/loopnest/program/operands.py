"""What a saved program knows its operands by: all but what only planning needs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from loopnest_hw.config import NumberFormat

from ..expression.expected import Expected, Layout
from ..expression.operand import Operand
from ..expression.reshaped import Reshaped
from ..expression.view import View
from .codec import Decoder, Encoder


class Given(Operand):
    """An operand whose values are known where it is used, but not here."""

    def __init__(self, name: str, shape: Sequence[int], dtype: NumberFormat) -> None:
        self.name, self.dtype, self.source = name, dtype, None
        self.shape = tuple(shape)
        self.zeros, self.origin, self.notes = None, None, ()
        self._layout: Layout | None = None
        self._sparse = self._wide = False
        self._entries = 0

    def describe(self, *, layout: Layout | None, sparse: bool, wide: bool, entries: int) -> None:
        """Tell how it is stored."""
        self._layout, self._sparse, self._wide, self._entries = layout, sparse, wide, entries

    @property
    def nnz(self) -> int:
        """The number of stored entries."""
        return self._entries

    @property
    def wide(self) -> bool:
        """Whether its values are wide."""
        return self._wide

    @property
    def sparse(self) -> bool:
        """Whether it has a compressed level."""
        return self._sparse

    @property
    def given(self) -> Layout | None:
        """Levels and mode order of a `Tensor`."""
        return self._layout

    @property
    def identity(self) -> int:
        """A number of its own."""
        return id(self)


class OperandEncoder:
    """Numbers operands, each after those that it refers to.

    Parameters
    ----------
    encoder : Encoder
    read : collection of Operand
        Those whose values the host reads.

    Attributes
    ----------
    table : list of dict
    """

    def __init__(self, encoder: Encoder, read: Collection[Operand]) -> None:
        self._encoder, self._read = encoder, read
        self._numbers: dict[Operand, int] = {}
        self.table: list[dict[str, Any]] = []

    def number(self, operand: Operand) -> int:
        """Return an operand's number."""
        if operand not in self._numbers:
            found = self._describe(operand)
            if operand.origin is not None:
                dense, zero = operand.origin
                found["origin"] = [self.number(dense), self._encoder.encode(zero)]
            self._numbers[operand] = len(self.table)
            self.table.append(found)
        return self._numbers[operand]

    def _describe(self, operand: Operand) -> dict[str, Any]:
        encode = self._encoder.encode
        if isinstance(operand, View):
            own = {"access": encode(operand.access), "sizes": encode(operand.sizes)}
            return {"kind": "view", "base": self.number(operand.base), **own}
        found: dict[str, Any] = {"name": operand.name, "shape": list(operand.shape)}
        if isinstance(operand, Reshaped):
            return {"kind": "reshaped", "base": self.number(operand.base), **found}
        found |= {
            "layout": encode(operand.given),
            "sparse": operand.sparse,
            "wide": operand.wide,
            "bounds": encode(operand.bounds),
        }
        if isinstance(operand, Expected):
            return {"kind": "result", **found}
        if operand in self._read:
            found["source"] = encode(operand.source)
        return {"kind": "given", "entries": operand.nnz, **found}


def make_operands(
    table: Sequence[Mapping[str, Any]], decoder: Decoder, dtype: NumberFormat
) -> list[Operand]:
    """Return the operands of a table."""
    found: list[Operand] = []
    for of in table:
        operand = _make(of, found, decoder, dtype)
        if "origin" in of:
            number, zero = of["origin"]
            operand.origin = found[number], decoder.decode(zero)
        found.append(operand)
    return found


def _make(
    of: Mapping[str, Any], before: Sequence[Operand], decoder: Decoder, dtype: NumberFormat
) -> Operand:
    decode = decoder.decode
    if of["kind"] == "view":
        return View(before[of["base"]], decode(of["access"]), decode(of["sizes"]))
    name, shape = of["name"], tuple(of["shape"])
    if of["kind"] == "reshaped":
        base = before[of["base"]]
        assert isinstance(base, Expected)
        return Reshaped(name, base, shape)
    layout, bounds = decode(of["layout"]), decode(of["bounds"])
    if of["kind"] == "result":
        return stand_in(name, shape, dtype, layout, of["sparse"], of["wide"], bounds)
    if "source" in of:
        known = Operand(name, decode(of["source"]), dtype)
        known.assume_bounds(*bounds)
        return known
    given = Given(name, shape, dtype)
    given.describe(layout=layout, sparse=of["sparse"], wide=of["wide"], entries=of["entries"])
    given.assume_bounds(*bounds)
    return given


def stand_in(
    name: str,
    shape: Sequence[int],
    dtype: NumberFormat,
    layout: Layout | None,
    sparse: bool,
    wide: bool,
    bounds: tuple[float, float],
) -> Expected:
    """Return an operand that is computed, without entries."""
    none = [np.zeros(0, np.int64) for _ in shape] if sparse else None
    return Expected(name, shape, dtype, none, layout=layout, wide=wide, bounds=bounds)
