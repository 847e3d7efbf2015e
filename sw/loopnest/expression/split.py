"""Splits statements that one kernel cannot compute: parts of an expression become intermediates.

An intermediate is computed first, with wide values, so that it is not rounded, and is an operand of
the remaining statement. Each call makes one split; the caller tries again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod

from ..formats.tensor import MAX_ORDER
from .notation import Access, Binary, Expression, Negate, Statement, accesses


class OneKernelError(ValueError):
    """A single kernel cannot compute a statement; the message says why."""


@dataclass(frozen=True)
class Split:
    """``parts`` are computed first; then ``rest``, in which their results are operands."""

    parts: tuple[Statement, ...]
    rest: Statement


@dataclass(frozen=True)
class Term:
    """A term of a sum: its expression without a sign, and its sign."""

    expression: Expression
    negate: bool


@dataclass(frozen=True)
class Splitter:
    """Splits statements.

    Attributes
    ----------
    operands : int
        Operand columns of the chip.
    sizes : mapping of str to int
        Sizes of the indices.
    wide : callable
        Whether an operand's values are wide.
    name : callable
        Returns a new name for each intermediate.
    ones : callable
        Returns a vector of the semiring's ones over an index.
    scalars : bool
        Whether an intermediate that is summed may be a number. If the semiring's zero is not 0, it
        may not: a number is always present, and a sum without terms is not.
    """

    operands: int
    sizes: Mapping[str, int]
    wide: Callable[[Access], bool]
    name: Callable[[], str]
    ones: Callable[[str], Access]
    scalars: bool = True

    def split(self, statement: Statement) -> Split | None:
        """Split intermediates off a statement that one kernel cannot compute; None if it cannot be
        split further. A mask stays with the remaining statement.
        """
        if statement.mask is None:
            return self._split(statement, self.operands)
        bare = replace(statement, mask=None)
        found = self._split(bare, self.operands - 1)
        if found is None and not isinstance(statement.expression, Access):
            whole = replace(bare, result=replace(statement.result, name=self.name()))
            found = Split((whole,), replace(statement, expression=whole.result))
        if found is None:
            return None
        return replace(found, rest=replace(found.rest, mask=statement.mask))

    def grouped(self, statement: Statement) -> Split | None:
        """Split the first factor in parentheses off a product, or only remove its parentheses if
        its result cannot be a factor. None if there is no such factor.
        """
        term, *more = terms_of(statement.expression)
        factors = factors_of(term.expression)
        at = next((n for n, factor in enumerate(factors) if is_group(factor)), None)
        if more or at is None or len(factors) == 1:
            return None
        others = [*factors[:at], *factors[at + 1 :]]
        kept = self._needed(statement, factors[at], others)
        parts: tuple[Statement, ...] = ()
        if len(kept) > MAX_ORDER or any(map(self.wide, _bare(others))):
            factors[at : at + 1] = factors_of(factors[at])
        else:
            parts = (Statement(Access(self.name(), kept), factors[at]),)
            factors = [parts[0].result, *others]
        product = Term(product_of(factors, grouped=is_group(term.expression)), term.negate)
        return Split(parts, replace(statement, expression=sum_of([product])))

    def reduce(self, statement: Statement) -> Split | None:
        """Split an intermediate off a statement that has too many loops; None if none has fewer: of
        a sum of three, two terms; of a product, a factor summed over the indices that only it has.
        """
        terms = terms_of(statement.expression)
        parts: list[Statement] = []
        if statement.mask is not None:
            return None

        def part(expression: Expression, kept: set[str]) -> Access:
            indices = tuple(i for i in statement.indices if i in kept & indices_of(expression))
            parts.append(Statement(Access(self.name(), indices), expression))
            return parts[-1].result

        if len(terms) > 2:
            two = part(sum_of(terms[:2]), set(statement.result.indices))
            rest = [Term(two, False), *terms[2:]]
            return Split(tuple(parts), Statement(statement.result, sum_of(rest)))
        factors = factors_of(terms[0].expression)
        if len(terms) > 1 or len(factors) < 2:
            return None

        def others(n: int) -> list[Expression]:
            return factors[:n] + factors[n + 1 :]

        # one factor, since what is summed is wide, of which a product takes one
        own = [
            indices_of(f).difference(statement.result.indices, *map(indices_of, others(n)))
            for n, f in enumerate(factors)
        ]
        if not self.scalars:
            own = [
                indices - {min(indices)} if indices and indices == indices_of(f) else indices
                for f, indices in zip(factors, own, strict=True)
            ]
        n = max(range(len(factors)), key=lambda n: prod(self.sizes[i] for i in own[n]))
        if not own[n] or any(map(self.wide, _bare(others(n)))):
            return None
        factors[n] = part(factors[n], indices_of(factors[n]) - own[n])
        product = Term(product_of(factors), terms[0].negate)
        return Split(tuple(parts), Statement(statement.result, sum_of([product])))

    def _split(self, statement: Statement, operands: int) -> Split | None:
        """Split one or more intermediates off a statement without a mask."""
        terms = terms_of(statement.expression)
        parts: list[Statement] = []

        def part(expression: Expression, kept: Sequence[str]) -> Access:
            """Make an expression a statement, and return the access to its result."""
            own = indices_of(expression)
            if own and kept and own.isdisjoint(kept) and not self.scalars:
                expression = product_of([expression, self.ones(kept[0])])
                own.add(kept[0])
            result = Access(self.name(), tuple(i for i in kept if i in own))
            parts.append(Statement(result, expression))
            return result

        if len(terms) > 1:
            kept = statement.result.indices
            chosen = _apart(statement, terms)
            if chosen:
                rest = [
                    Term(part(t.expression, kept), t.negate) if n in chosen else t
                    for n, t in enumerate(terms)
                ]
            elif len(terms) > operands:
                rest = [Term(part(sum_of(terms[:operands]), kept), False), *terms[operands:]]
            else:
                return None
            return Split(tuple(parts), Statement(statement.result, sum_of(rest)))

        (term,) = terms
        factors = factors_of(term.expression)
        sums = [n for n, factor in enumerate(factors) if not isinstance(factor, Access)]
        if len(factors) > 1 and sums:
            wide = [n for n, f in enumerate(factors) if isinstance(f, Access) and self.wide(f)]
            together = self._sums(statement, factors, sums, wide)
            if together is None:
                return Split((), self._multiplied_out(statement, term, sums[0]))
            own_product = product_of([factors[n] for n in together])
            others = [f for n, f in enumerate(factors) if n not in together]
            kept = _in_order(own_product)
            if len(together) > 1 or is_group(own_product):
                kept = self._needed(statement, own_product, others)
            factors = [part(own_product, kept), *others]
        elif len(factors) > 2:
            together = _contraction(statement, factors, self.sizes, self.wide)
            others = [f for n, f in enumerate(factors) if n not in together]
            own_product = product_of([factors[n] for n in together])
            factors = [part(own_product, self._needed(statement, own_product, others)), *others]
        else:
            return None
        rest_term = Term(product_of(factors), term.negate)
        return Split(tuple(parts), Statement(statement.result, sum_of([rest_term])))

    def _sums(
        self,
        statement: Statement,
        factors: Sequence[Expression],
        sums: Sequence[int],
        wide: Sequence[int],
    ) -> tuple[int, ...] | None:
        """Return the factors of a product with sums to compute as an intermediate: a sum; or a wide
        factor and a sum, which is then multiplied out, but no other. None if the first sum is to be
        multiplied out immediately.

        A product takes one wide factor, and no tensor has more modes than `MAX_ORDER`.
        """

        def indices(n: int) -> int:
            return len(indices_of(factors[n]))

        if not wide:
            terms = {n: len(terms_of(factors[n])) for n in sums}
            if len(factors) == len(sums) == 2 and max(terms.values()) == 2:
                return None  # two kernels of three operands, and their sum
            possible = [n for n in sums if indices(n) <= MAX_ORDER]
            return (max(possible, key=lambda n: terms[n]),) if possible else None
        if len(factors) == 2:
            return None

        def kept(n: int) -> int:
            both = [factors[m] for m in sorted((wide[0], n))]
            others = [f for m, f in enumerate(factors) if m not in (wide[0], n)]
            return len(self._needed(statement, product_of(both), others))

        best = min(sums, key=kept)
        return (wide[0], best) if kept(best) <= MAX_ORDER else None

    def _needed(
        self, statement: Statement, own: Expression, others: Sequence[Expression]
    ) -> tuple[str, ...]:
        """Return the indices of some factors that the rest of the product needs."""
        needed = dict.fromkeys(statement.result.indices)
        needed.update(dict.fromkeys(i for f in others for i in _in_order(f)))
        indices = _in_order(own)
        left = tuple(i for i in needed if i in indices)
        return left if left or self.scalars else indices[:1]

    def _multiplied_out(self, statement: Statement, term: Term, at: int) -> Statement:
        """Return a product with one of its factors, a sum, multiplied out."""
        factors = factors_of(term.expression)
        others = [*factors[:at], *factors[at + 1 :]]
        summed = [i for i in statement.indices if i not in statement.result.indices]
        multiplied = []
        for t in terms_of(factors[at]):
            product = [*factors_of(t.expression), *others]
            # each is summed over all indices that the whole term is summed over
            has = indices_of(product_of(product))
            product += [self.ones(i) for i in summed if i not in has]
            multiplied.append(Term(product_of(product), t.negate ^ term.negate))
        return Statement(statement.result, sum_of(multiplied))


def terms_of(expression: Expression, *, negate: bool = False) -> list[Term]:
    """Return the terms of a sum, without signs in their factors."""
    match expression:
        case Binary("+" | "-" as op, left, right):
            second = negate ^ (op == "-")
            return terms_of(left, negate=negate) + terms_of(right, negate=second)
        case Negate(term):
            return terms_of(term, negate=not negate)
        case Binary():
            factors: list[Expression] = []
            signs = 0
            for factor in factors_of(expression):
                while isinstance(factor, Negate):
                    factor, signs = factor.term, signs + 1
                factors += [factor] if is_group(factor) else factors_of(factor)
            product = product_of(factors, grouped=expression.grouped)
            return [Term(product, negate ^ bool(signs % 2))]
    return [Term(expression, negate)]


def factors_of(product: Expression) -> list[Expression]:
    """Return the factors of a product; one in parentheses is a factor itself."""
    match product:
        case Binary("*", left, right):
            return [
                factor
                for side in (left, right)
                for factor in ([side] if is_group(side) else factors_of(side))
            ]
    return [product]


def is_group(factor: Expression) -> bool:
    """Return whether a factor is a product in parentheses."""
    return isinstance(factor, Binary) and factor.grouped


def product_of(factors: Sequence[Expression], *, grouped: bool = False) -> Expression:
    """Return the product of some factors, ``grouped``: in parentheses."""
    found, *others = factors
    for factor in others:
        found = Binary("*", found, factor)
    return replace(found, grouped=True) if grouped and isinstance(found, Binary) else found


def _bare(factors: Sequence[Expression]) -> list[Access]:
    return [f for f in factors if isinstance(f, Access)]


def sum_of(terms: Sequence[Term]) -> Expression:
    """Return the sum of some terms."""
    first, *others = terms
    found = Negate(first.expression) if first.negate else first.expression
    for term in others:
        found = Binary("-" if term.negate else "+", found, term.expression)
    return found


def _apart(statement: Statement, terms: Sequence[Term]) -> list[int]:
    """Return the terms of a sum to compute separately: those that are summed themselves, or else
    those that are products.
    """

    def is_summed(term: Term) -> bool:
        own = {i for access in accesses(term.expression) for i in access.indices}
        return not own <= set(statement.result.indices)

    numbers = range(len(terms))
    summed = [n for n in numbers if is_summed(terms[n])]
    if summed:
        return summed
    return [n for n in numbers if not isinstance(terms[n].expression, Access)]


def _contraction(
    statement: Statement,
    factors: Sequence[Expression],
    sizes: Mapping[str, int],
    wide: Callable[[Access], bool],
) -> tuple[int, int]:
    """Return the two factors to multiply first: the fewest coordinates in their loops, then in
    their result. A wide one is among them, since a product takes no two; and if it can be, their
    result has no more modes than a tensor.
    """

    def cost(pair: tuple[int, int]) -> tuple[bool, bool, int, int]:
        indices = [indices_of(factors[n]) for n in range(len(factors))]
        loops = indices[pair[0]] | indices[pair[1]]
        needed = set(statement.result.indices).union(
            *(own for n, own in enumerate(indices) if n not in pair)
        )
        left_wide = any(wide(a) for n, a in enumerate(_bare(factors)) if n not in pair)
        return (
            left_wide,
            len(loops & needed) > MAX_ORDER,
            prod(sizes[i] for i in loops),
            prod(sizes[i] for i in loops & needed),
        )

    return min(combinations(range(len(factors)), 2), key=cost)


def _in_order(expression: Expression) -> tuple[str, ...]:
    """Return its indices in order of occurrence."""
    return tuple(dict.fromkeys(i for access in accesses(expression) for i in access.indices))


def indices_of(expression: Expression) -> set[str]:
    """Return the indices of an expression."""
    return set(_in_order(expression))
