"""What a run and its report need of a kernel's plan."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..cost.estimate import Estimate
from ..expression.notation import Statement
from ..named import named
from ..nest.result import ResultPlan
from .plan import Plan


@named
@dataclass(frozen=True)
class Outline:
    """A plan without its operands; its attributes are those of `Plan`."""

    statement: Statement
    loops: tuple[str, ...]
    sizes: Mapping[str, int]
    result: ResultPlan
    expected: Estimate
    cycles: float
    stored: tuple[str, ...]
    depth: int
    mask: int | None


def outline(plan: Plan | Outline) -> Outline:
    """Return the outline of a plan."""
    return Outline(
        statement=plan.statement,
        loops=plan.loops,
        sizes=plan.sizes,
        result=plan.result,
        expected=plan.expected,
        cycles=plan.cycles,
        stored=plan.stored,
        depth=plan.depth,
        mask=plan.mask,
    )
