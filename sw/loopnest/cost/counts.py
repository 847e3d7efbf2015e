"""Counts of operands' coordinates that the plans of a statement share: what operands have in common
does not depend on the order of the loops.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from .relation import Relation, total


@dataclass(frozen=True)
class Counted:
    """A relation that is made if it is needed; relations of equal ``key`` have the same tuples."""

    key: Hashable
    make: Callable[[], Relation]


class Counts:
    """The weights of joins, each computed once."""

    def __init__(self) -> None:
        self._totals: dict[Hashable, float] = {}

    def total(
        self, relations: Sequence[Counted], over: Collection[str], sizes: Mapping[str, int]
    ) -> float:
        """Return the weight of the join of all relations over the indices ``over`` (`total`)."""
        space = frozenset((i, sizes[i]) for i in over)
        key = frozenset(counted.key for counted in relations), space
        if key not in self._totals:
            unique = {counted.key: counted for counted in relations}
            self._totals[key] = total([c.make() for c in unique.values()], over, sizes)
        return self._totals[key]
