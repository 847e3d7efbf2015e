"""The reference by NumPy: computes every coordinate of every term, in the semiring."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest.expression.notation import Access, Binary, Expression, Negate, Place, accesses
from loopnest.expression.parser import parse
from loopnest.expression.sizes import view_sizes

from .cases import Case


@dataclass(frozen=True)
class Ring:
    """A semiring: its sum and product, its zero, and which factors count as 1."""

    add: np.ufunc = np.add
    multiply: np.ufunc = np.multiply
    zero: float = 0.0
    keeps: str = "all"


RINGS = {
    "plus_times": Ring(),
    "min_plus": Ring(np.minimum, np.add, np.inf),
    "max_times": Ring(np.maximum, np.multiply, -np.inf),
    "or_and": Ring(np.maximum, np.multiply),
    "plus_first": Ring(keeps="first"),
    "plus_second": Ring(keeps="second"),
    "plus_pair": Ring(keeps="none"),
}

SUBTRACTING = tuple(name for name, ring in RINGS.items() if ring.add is np.add)


@dataclass(frozen=True)
class Values:
    """Values, where they are present, and the magnitude to which their rounding error is
    relative.
    """

    value: NDArray[np.float64]
    there: NDArray[np.bool_]
    magnitude: NDArray[np.float64]


@dataclass(frozen=True)
class Expected:
    """A result: its values, the semiring's zero where it has none; and the maximum number of terms
    of a value.
    """

    value: NDArray[np.float64]
    there: NDArray[np.bool_]
    magnitude: NDArray[np.float64]
    terms: int


def reference(case: Case) -> Expected:
    """Return the result before an epilogue. A term of the statement is summed over its own indices,
    as defined in docs/expressions.md.
    """
    ring = RINGS[case.semiring]
    statement = parse(case.statement)
    operands = {name: given.stored(case.dtype) for name, given in case.operands.items()}
    shapes = [operands[a.tensor][0].shape for a in statement.accesses]
    sizes = view_sizes(statement, shapes)
    shape = tuple(sizes[i] for i in statement.result.indices)
    zero = zero_of(case)
    found = Values(np.full(shape, zero), np.zeros(shape, bool), np.zeros(shape))
    terms = 0
    for term, sign in _terms(statement.expression, 1):
        own = {i for access in accesses(term) for i in access.indices}
        space = [*statement.result.indices, *sorted(own - set(statement.result.indices))]
        whole = tuple(sizes[i] for i in space)

        def leaf(access: Access, kept: bool, space: list[str] = space) -> Values:
            places = access.places or tuple(Place(((i, 1),), 0) for i in access.indices)
            at = tuple(_coordinates(place, space, sizes) for place in places)
            value, there = (array[at] for array in operands[access.tensor])
            if case.semiring == "or_and":
                value = (value != 0) * 1.0
            if not kept:
                value = np.ones_like(value)
            one = (1,) * len(space)
            if not places:
                value, there = value.reshape(one), there.reshape(one)
            return Values(value, there, np.abs(value))

        got = _evaluate(term, ring, leaf, ring.keeps != "none")
        summed = tuple(range(len(shape), len(space)))
        value = np.where(got.there, sign * got.value, zero)
        value, there, magnitude = (
            np.broadcast_to(x, whole) for x in (value, got.there, got.magnitude * got.there)
        )
        sums = ring.add is np.add
        found = Values(
            ring.add(found.value, ring.add.reduce(value, axis=summed, initial=zero)),
            found.there | there.any(axis=summed),
            # the error of the minimum or maximum is at most the largest error of a term
            np.add(found.magnitude, magnitude.sum(axis=summed))
            if sums
            else np.maximum(found.magnitude, magnitude.max(axis=summed, initial=0)),
        )
        terms += int(np.prod([sizes[i] for i in space[len(shape) :]])) if sums else 1
    value = np.where(found.there, found.value, zero)
    if statement.mask is None and case.mask is None:
        return Expected(value, found.there, found.magnitude, terms)
    keep = _kept(case, sizes)
    return Expected(np.where(keep, value, zero), found.there & keep, found.magnitude * keep, terms)


def zero_of(case: Case) -> float:
    """Return the value of a sum without terms: an int8 chip's infinities are the limits of
    int32.
    """
    zero = RINGS[case.semiring].zero
    limits = np.iinfo(np.int32)
    return float(np.clip(zero, limits.min, limits.max)) if case.dtype == "int8" else zero


def kept_rows(case: Case) -> NDArray[np.bool_] | None:
    """Return where the mask keeps the result, in the result's order; None without a mask."""
    statement = parse(case.statement)
    if statement.mask is None and case.mask is None:
        return None
    shapes = [case.operands[a.tensor].array.shape for a in statement.accesses]
    return _kept(case, view_sizes(statement, shapes))


def _kept(case: Case, sizes: Mapping[str, int]) -> NDArray[np.bool_]:
    statement = parse(case.statement)
    result = statement.result.indices
    if statement.mask is None:
        assert case.mask is not None
        given, indices, complement = case.mask, result, case.complement
    else:
        given = case.operands[statement.mask.access.tensor]
        indices, complement = statement.mask.access.indices, statement.mask.complement
    there = given.stored(case.dtype)[1] if given.kind != "array" else given.array != 0
    order = sorted(range(len(indices)), key=lambda n: result.index(indices[n]))
    missing = tuple(n for n, i in enumerate(result) if i not in indices)
    keep = np.expand_dims(there.transpose(order), missing) != complement
    return np.broadcast_to(keep, tuple(sizes[i] for i in result))


def _coordinates(place: Place, space: list[str], sizes: Mapping[str, int]) -> NDArray[np.int64]:
    """Return a place's coordinate for all of the space of its indices."""
    found = np.full((1,) * len(space), place.offset)
    for index, factor in place.terms:
        shape = [sizes[i] if i == index else 1 for i in space]
        found = found + (factor * np.arange(sizes[index])).reshape(shape)
    return found


def _terms(expression: Expression, sign: int) -> Iterator[tuple[Expression, int]]:
    match expression:
        case Negate(term):
            yield from _terms(term, -sign)
        case Binary("+" | "-", left, right):
            yield from _terms(left, sign)
            yield from _terms(right, -sign if expression.op == "-" else sign)
        case _:
            yield expression, sign


def _evaluate(
    expression: Expression, ring: Ring, leaf: Callable[[Access, bool], Values], kept: bool
) -> Values:
    """Return an expression's values; if not ``kept``, its operands count as 1."""
    match expression:
        case Access():
            return leaf(expression, kept)
        case Negate(term):
            found = _evaluate(term, ring, leaf, kept)
            return Values(-found.value, found.there, found.magnitude)
        case Binary(op, left, right):
            product = op == "*"
            a = _evaluate(left, ring, leaf, kept and not (product and ring.keeps == "second"))
            b = _evaluate(right, ring, leaf, kept and not (product and ring.keeps == "first"))
            if product:
                value = ring.multiply(a.value, b.value)
                magnitude = ring.multiply(a.magnitude, b.magnitude)
                return Values(value, a.there & b.there, magnitude)
            both = ring.add(a.value, -b.value if op == "-" else b.value)
            alone = np.where(a.there, a.value, -b.value if op == "-" else b.value)
            value = np.where(a.there & b.there, both, alone)
            magnitude = a.magnitude * a.there + b.magnitude * b.there
            return Values(value, a.there | b.there, magnitude)
    raise AssertionError(expression)
