"""Refuses to take a statement apart where its result would be another one."""

from loopnest_hw.descriptor import Op

from ..expression.notation import Access, Statement, accesses
from ..expression.split import Split, terms_of
from .scope import Scope


def check_split(scope: Scope, statement: Statement, split: Split) -> None:
    """Check that the parts of a statement give its result.

    A product distributes over a maximum only for factors of 0 or more: what a maximum over some
    indices is multiplied by, and what is multiplied by the terms of a sum, must not be negative.

    Raises
    ------
    ValueError
        Naming an operand with negative values.
    """
    semiring, named = scope.semiring, scope.named
    if semiring.add is not Op.MAX or semiring.multiply is not Op.MUL:
        return
    used = {access.name for access in accesses(statement.expression)}
    negative = [n for n in sorted(used) if named[n].known and named[n].bounds[0] < 0]
    # an earlier part may be negative where an operand is
    any_negative = any(o.known and o.bounds[0] < 0 for o in named.values())
    maxima = {p.result.name for p in split.parts if set(p.indices) > set(p.result.indices)}
    multiplied_out = len(terms_of(split.rest.expression)) > len(terms_of(statement.expression))
    risky = list(negative) if multiplied_out else []
    for term in terms_of(split.rest.expression):
        names = [access.name for access in accesses(term.expression)]
        if isinstance(term.expression, Access) or not maxima & set(names):
            continue
        others = [n for n in names if n not in maxima]
        earlier = any_negative and (
            len(names) - len(others) > 1 or any(n in named and not named[n].known for n in others)
        )
        risky += negative if earlier else [n for n in others if n in negative]
    if risky:
        low = named[risky[0]].bounds[0]
        raise ValueError(
            f"{statement}: {risky[0]} has the value {low:g}: expected 0 or more in several kernels "
            f"of {semiring.name}"
        )
