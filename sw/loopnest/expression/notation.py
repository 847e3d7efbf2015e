"""Expression trees of tensor index notation: statements, accesses, and the places of views."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ..named import named

DECIMAL = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
"""A number, as a regular expression."""


@named
@dataclass(frozen=True)
class Place:
    """A coordinate as a sum of indices, each with a factor, plus an offset: ``2*i + j - 1``."""

    terms: tuple[tuple[str, int], ...]
    offset: int

    @property
    def plain(self) -> str | None:
        """The index, if the place is a single index, otherwise None."""
        alone = len(self.terms) == 1 and self.terms[0][1] == 1 and not self.offset
        return self.terms[0][0] if alone else None


@named
@dataclass(frozen=True)
class Access:
    """A tensor with its indices; a scalar has none. The name of a number is how it is written.

    For a view, ``places`` are its coordinates by mode, ``indices`` those of the view, and its name
    is its notation: ``"x[i+j]"``. What a view shows may be an operand of its own, without
    ``places``: it keeps the name.
    """

    name: str
    indices: tuple[str, ...]
    places: tuple[Place, ...] | None = None

    @property
    def tensor(self) -> str:
        """The name of the tensor without indices."""
        return self.name.partition("[")[0]

    @property
    def number(self) -> float | int | None:
        """The value of a number, None of a tensor."""
        if not re.fullmatch(f"-?{DECIMAL}", self.name):
            return None
        return int(self.name) if self.name.lstrip("-").isdecimal() else float(self.name)

    def __str__(self) -> str:
        if "[" in self.name:
            return self.name
        return f"{self.name}[{','.join(self.indices)}]" if self.indices else self.name


@named
@dataclass(frozen=True)
class Negate:
    """The negative of an expression."""

    term: "Expression"

    def __str__(self) -> str:
        return f"-{_enclosed(self.term)}"


@named
@dataclass(frozen=True)
class Binary:
    """``left op right`` with op ``+``, ``-`` or ``*``; ``grouped``: a product in parentheses."""

    op: str
    left: "Expression"
    right: "Expression"
    grouped: bool = False

    def __str__(self) -> str:
        product = self.op == "*"
        left = _enclosed(self.left) if product else str(self.left)
        text = f"{left} {self.op} {_enclosed(self.right)}"
        return f"({text})" if self.grouped else text


Expression = Access | Negate | Binary


def _enclosed(expression: Expression) -> str:
    """Return how a factor or what is subtracted is written: a sum in parentheses."""
    is_sum = isinstance(expression, Binary) and expression.op != "*"
    return f"({expression})" if is_sum else str(expression)


@named
@dataclass(frozen=True)
class Mask:
    """A tensor whose pattern selects the result: where it has an entry or, with ``complement``,
    where it has none. Its values are ignored.
    """

    access: Access
    complement: bool

    def __str__(self) -> str:
        return f" where {'not ' * self.complement}{self.access}"


@named
@dataclass(frozen=True)
class Statement:
    """``result = expression``, for all coordinates or those that a mask keeps."""

    result: Access
    expression: Expression
    mask: Mask | None = None

    def __str__(self) -> str:
        return f"{self.result} = {self.expression}{self.mask or ''}"

    @property
    def accesses(self) -> tuple[Access, ...]:
        """The operands in the order written, the mask last; a tensor used twice occurs twice."""
        mask = () if self.mask is None else (self.mask.access,)
        return (*accesses(self.expression), *mask)

    @property
    def indices(self) -> tuple[str, ...]:
        """Every index once: the result's, then the summed ones in the order written."""
        found = dict.fromkeys(self.result.indices)
        for access in self.accesses:
            found.update(dict.fromkeys(access.indices))
        return tuple(found)

    @property
    def summed(self) -> tuple[str, ...]:
        """Indices that the result does not have."""
        return tuple(i for i in self.indices if i not in self.result.indices)

    def with_accesses(self, change: Callable[[Access], Access]) -> "Statement":
        """Return the statement with each access changed, the result's and the mask's too."""
        mask = self.mask
        if mask is not None:
            mask = replace(mask, access=change(mask.access))
        return Statement(change(self.result), with_accesses(self.expression, change), mask)


def accesses(expression: Expression) -> Iterator[Access]:
    """Yield an expression's operands from left to right."""
    match expression:
        case Access():
            yield expression
        case Negate(term):
            yield from accesses(term)
        case Binary(_, left, right):
            yield from accesses(left)
            yield from accesses(right)


def with_accesses(expression: Expression, change: Callable[[Access], Access]) -> Expression:
    """Return an expression with each of its operands changed."""
    match expression:
        case Access():
            return change(expression)
        case Negate(term):
            return Negate(with_accesses(term, change))
        case Binary(_, left, right):
            return replace(
                expression, left=with_accesses(left, change), right=with_accesses(right, change)
            )


def named_apart(statement: Statement) -> tuple[Statement, dict[str, str]]:
    """Return the statement with a name for each access, and the operand that each name stands for.

    ``A[i,k] * A[k,j]`` becomes ``A[i,k] * A'[k,j]``: what is made of an operand at one access (a
    slice, say) is not what is made of it at another.
    """
    names: dict[Access, str] = {}
    operands: dict[str, str] = {}
    for access in statement.accesses:
        if access not in names:
            name = access.name
            while name in operands:
                name += "'"
            names[access], operands[name] = name, access.name
    renamed = statement.with_accesses(lambda a: replace(a, name=names.get(a, a.name)))
    return replace(renamed, result=statement.result), operands


def moved_modes(among: Iterable[Access]) -> set[tuple[str, int, str]]:
    """Return the tensor, mode and index of views with a step or an offset, as in ``x[i+1]``. There,
    a single index does not determine its size.
    """
    return {
        (access.tensor, mode, index)
        for access in among
        for mode, place in enumerate(access.places or ())
        for index, _ in place.terms
        if place.plain is None
    }


def written_place(place: Place) -> str:
    """Return a place's notation."""
    parts = [index if factor == 1 else f"{factor}*{index}" for index, factor in place.terms]
    if place.offset < 0:
        return f"{'+'.join(parts)}{place.offset}"
    return "+".join([*parts, *([str(place.offset)] if place.offset or not parts else [])])
