"""Statements without operands that have no entries: a product with one has no terms, and a sum is
that of its other terms.
"""

from collections.abc import Collection
from dataclasses import replace

from .notation import Access, Binary, Expression, Negate, Statement
from .split import Term, indices_of, sum_of, terms_of


def without_absent(statement: Statement, absent: Collection[str]) -> Statement | None:
    """Return the statement without the operands named, which have no entries; None if nothing is
    left of it. An operand stays where the sizes of indices depend on it.
    """
    mask = statement.mask
    if mask is not None and not mask.complement and mask.access.name in absent:
        return None
    kept = []
    for term in terms_of(statement.expression):
        left = _left(term.expression, absent)
        if left is None:
            continue
        # what a term is summed over may not change
        if indices_of(left) != indices_of(term.expression):
            left = term.expression
        kept.append(Term(left, term.negate))
    if not kept:
        return None
    expression = sum_of(kept)
    if not set(statement.result.indices) <= indices_of(expression):
        return statement
    return replace(statement, expression=expression)


def _left(expression: Expression, absent: Collection[str]) -> Expression | None:
    match expression:
        case Access(name):
            return None if name in absent else expression
        case Negate(term):
            left = _left(term, absent)
            return None if left is None else Negate(left)
        case Binary("*", one, other):
            a, b = _left(one, absent), _left(other, absent)
            return None if a is None or b is None else replace(expression, left=a, right=b)
        case Binary(op, one, other):
            a, b = _left(one, absent), _left(other, absent)
            if b is None:
                return a
            if a is None:
                return Negate(b) if op == "-" else b
            return replace(expression, left=a, right=b)
