"""Semirings: the operations of ``+`` and ``*``.

Absent entries and sums without terms are the semiring's zero, which is not stored: a compressed
result has no entry there, a dense one has `Semiring.zero`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Op, Reduction

from ..formats import numbers
from ..formats.tensor import Tensor
from ..named import named
from .expected import Expected
from .notation import Access, Binary, Expression, Negate, Statement, accesses
from .operand import Operand

named(Op)

Rearrange = Callable[[str, Operand, Callable[[Operand], Operand]], Operand]
"""Applies a change, which is told in words, to an operand."""


@named
class Factors(Enum):
    """Which factors of a product keep their values; the others count as 1 where they are stored."""

    ALL = "all"
    FIRST = "first"
    SECOND = "second"
    NONE = "none"


@named
@dataclass(frozen=True)
class Semiring:
    """A semiring of the chip.

    Attributes
    ----------
    add, multiply : Op
        The lane's operators for ``+`` and ``*``.
    zero : float
        The value of a sum without terms: 0, or an infinity (on an int8 chip, a limit of int32).
    factors : Factors
    boolean : bool
        Nonzero values count as 1.
    """

    name: str
    add: Op
    multiply: Op
    zero: float = 0.0
    factors: Factors = Factors.ALL
    boolean: bool = False

    @property
    def reduction(self) -> Reduction:
        """How the chip combines a key's terms."""
        return {Op.ADD: Reduction.SUM, Op.MIN: Reduction.MIN, Op.MAX: Reduction.MAX}[self.add]

    @property
    def one(self) -> float:
        """The neutral factor."""
        return 0.0 if self.multiply is Op.ADD else 1.0

    @property
    def subtracts(self) -> bool:
        """Whether there is a ``-``."""
        return self.add is Op.ADD

    def absent_is_zero(self, operands: Sequence[Operand]) -> bool:
        """Return whether an absent entry of these operands is equivalent to an entry of 0."""
        if self.zero != 0 or self.add is Op.ADD:
            return self.zero == 0
        return all(operand.bounds[0] >= 0 for operand in operands)

    def op(self, op: Op) -> Op:
        """Return the chip's operator for an expression's `ADD`, `MUL` or `FIRST`."""
        return {Op.ADD: self.add, Op.MUL: self.multiply}.get(op, op)

    def zero_bits(self, dtype: NumberFormat) -> int:
        """Return the wide value of a sum without terms, as bits."""
        if dtype is NumberFormat.INT8:
            limits = np.iinfo(np.int32)
            whole = int(np.clip(self.zero, limits.min, limits.max))
            return int(np.int32(whole).view(np.uint32))
        return int(np.float32(self.zero).view(np.uint32))

    def neutral_bits(self, dtype: NumberFormat) -> int:
        """Return the wide value, as bits, that leaves every bit of a value that it is added to."""
        if dtype is NumberFormat.BF16 and self.reduction is Reduction.SUM:
            return int(np.float32(-0.0).view(np.uint32))
        return self.zero_bits(dtype)

    def prepare(
        self,
        statement: Statement,
        operands: Sequence[Operand],
        rearrange: Rearrange,
    ) -> tuple[Statement, list[Operand]]:
        """Return the statement and its operands with the semiring's values.

        Parameters
        ----------
        operands : sequence of Operand
            One for each access, the mask's last; the mask is unchanged.
        rearrange : callable
            Applies a change to an operand.

        Raises
        ------
        ValueError
            If the statement subtracts and the semiring cannot.
        """
        if not self.subtracts and negates(statement.expression):
            raise ValueError(f"{statement}: the semiring {self.name} has no subtraction")
        if self.factors is Factors.ALL and not self.boolean:
            return statement, list(operands)
        expression = self._named(statement.expression, self.factors is not Factors.NONE)
        changed: dict[tuple[str, int], Operand] = {}
        prepared = []
        pairs = zip(statement.accesses, accesses(expression), strict=False)
        for operand, (before, after) in zip(operands, pairs, strict=False):
            # a tensor used twice in the same way stays one operand
            key = after.tensor, id(operand)
            if key not in changed:
                if self.boolean:
                    what = f"make the values of {before.tensor} 0 and 1"
                    changed[key] = rearrange(what, operand, partial(_mapped, change=_truth))
                elif after.name != before.name:
                    what = f"make the values of {before.tensor} 1"
                    changed[key] = rearrange(what, operand, partial(_mapped, change=_ones))
                else:
                    changed[key] = operand
            prepared.append(changed[key])
        return replace(statement, expression=expression), [*prepared, *operands[len(prepared) :]]

    def _named(self, expression: Expression, kept: bool) -> Expression:
        """Return the expression with other names for factors that count as 1."""
        match expression:
            case Access():
                if kept or self.boolean:
                    return expression
                # no operand's name begins with this
                return replace(expression, name=f"1_{expression.name}")
            case Negate(term):
                return Negate(self._named(term, kept))
            case Binary("*", left, right):
                return replace(
                    expression,
                    left=self._named(left, kept and self.factors is not Factors.SECOND),
                    right=self._named(right, kept and self.factors is not Factors.FIRST),
                )
            case Binary(op, left, right):
                return Binary(op, self._named(left, kept), self._named(right, kept))


PLUS_TIMES = Semiring("plus_times", Op.ADD, Op.MUL)

SEMIRINGS = {
    ring.name: ring
    for ring in (
        PLUS_TIMES,
        Semiring("min_plus", Op.MIN, Op.ADD, zero=float("inf")),
        Semiring("max_times", Op.MAX, Op.MUL, zero=float("-inf")),
        Semiring("max_times_0", Op.MAX, Op.MUL),
        Semiring("or_and", Op.MAX, Op.MUL, boolean=True),
        Semiring("plus_first", Op.ADD, Op.MUL, factors=Factors.FIRST),
        Semiring("plus_second", Op.ADD, Op.MUL, factors=Factors.SECOND),
        Semiring("plus_pair", Op.ADD, Op.MUL, factors=Factors.NONE),
    )
}
"""The semirings by name. ``plus_pair`` counts matches. ``max_times`` and ``max_times_0`` are ones
for values of 0 or more: a product does not distribute over a maximum of negative ones
(`program.regroup`), and a maximum of 0 is not neutral."""


def find_semiring(name: str) -> Semiring:
    """Return the semiring of a name.

    Raises
    ------
    ValueError
        If there is no such semiring.
    """
    if name not in SEMIRINGS:
        raise ValueError(f"semiring {name!r}: expected one of {', '.join(SEMIRINGS)}")
    return SEMIRINGS[name]


def negates(expression: Expression) -> bool:
    """Return whether any term of an expression is subtracted or negated."""
    match expression:
        case Access():
            return False
        case Negate():
            return True
        case Binary(op, left, right):
            return op == "-" or negates(left) or negates(right)


@named
def _truth(values: NDArray) -> NDArray:
    return (values != 0).astype(np.int8)


@named
def _ones(values: NDArray) -> NDArray:
    return np.ones_like(values)


@named
def _mapped(operand: Operand, change: Callable[[NDArray], NDArray]) -> Operand:
    """Return the operand with its stored values changed, to narrow ones."""
    if isinstance(operand, Expected):
        return operand.narrowed()
    source = operand.source
    if isinstance(source, Tensor):
        values = change(numbers.decode(source.values)).astype(np.float64)
        source = Tensor(
            source.shape,
            source.levels,
            source.arrays,
            numbers.encode(values, operand.dtype, False, lambda k: (k,)),
            dtype=operand.dtype,
            mode_order=source.mode_order,
        )
    elif sp.issparse(source):
        source = source.tocoo(copy=True)
        source.sum_duplicates()
        source.data = change(source.data)
    else:
        source = change(source)
    return Operand(operand.name, source, operand.dtype)
