"""Compares the loop order picked for random statements with all others, and its estimate with the
measured cycles.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from loopnest import Chip, Tensor
from loopnest.expression.parser import parse

from .drawn import Drawn, draw
from .outcome import same

WITHIN = 1.3
"""Maximum cycles of the picked order, relative to the fastest one."""

FACTOR = 2.0
"""Maximum factor between the estimate of the picked order and its cycles."""

FAR = 10.0
"""Orders that are expected to take this many times the cycles of the picked one are omitted."""

SMALL = 50_000
"""Orders of up to this many cycles are never omitted."""


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The outcome of one statement.

    Attributes
    ----------
    picked, fastest : str
        Loops; several kernels' are separated by a comma.
    cycles : int
        Of the order picked.
    over : float
        Cycles of the picked order divided by those of the fastest one, each with the cost of its
        converted tensors.
    estimate : float
        Of the order picked.
    right : bool
        All orders give the same result.
    orders : mapping of str to (float, int)
        Each one's estimate and cycles.
    """

    name: str
    picked: str
    fastest: str
    cycles: int
    over: float
    estimate: float
    right: bool
    orders: dict[str, tuple[float, int]]

    @property
    def ratio(self) -> float:
        """Estimate over cycles."""
        return self.estimate / self.cycles

    @property
    def met(self) -> bool:
        """Whether both bounds are kept."""
        return self.over <= WITHIN and 1 / FACTOR <= self.ratio <= FACTOR

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by name."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def run_picks(chip: Chip, count: int, seed: int) -> Iterator[Pick]:
    """Run random statements in all orders; yield the outcome of each."""
    for drawn in draw(chip, count, seed):
        yield run_pick(chip, drawn)


def run_pick(chip: Chip, drawn: Drawn) -> Pick:
    """Run a statement in the order picked and in all others."""
    plans = chip.explain(drawn.statement, **drawn.operands).plans
    picked = ",".join("".join(plan.loops) for plan in plans)
    estimate = sum(plan.cycles for plan in plans)
    result, cycles = _run(chip, drawn, None)
    found = {picked: (estimate, cycles)}
    whole = {picked: cycles + sum(plan.converting for plan in plans)}
    right = True
    for loops in permutations(sorted(parse(drawn.statement).indices)):
        order = "".join(loops)
        if order in found:
            continue
        try:
            (plan,) = chip.explain(drawn.statement, order=loops, **drawn.operands).plans
        except ValueError:  # not with one kernel
            continue
        if not plan.fits or plan.cycles > max(SMALL, FAR * estimate):
            continue
        other, taken = _run(chip, drawn, loops)
        right = right and same(result, other)
        found[order] = plan.cycles, taken
        whole[order] = taken + plan.converting
    fastest = min(whole, key=lambda order: whole[order])
    return Pick(
        name=drawn.name,
        picked=picked,
        fastest=fastest,
        cycles=cycles,
        over=whole[picked] / whole[fastest],
        estimate=estimate,
        right=right,
        orders=found,
    )


def _run(chip: Chip, drawn: Drawn, order: tuple[str, ...] | None) -> tuple[Any, int]:
    result = chip.compute(drawn.statement, order=order, **drawn.operands)
    if isinstance(result, Tensor):
        result = result.to_scipy() if result.shape else result.to_dense()
    assert chip.report is not None and chip.report.cycles is not None
    return result, chip.report.cycles


def table_of(picks: list[Pick], title: str) -> Table:
    """Return the figures as a table."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("statement", overflow="fold")
    table.add_column("picked")
    table.add_column("fastest")
    for name in ("cycles", "over", "estimate", "ratio", "all orders"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("met")
    for pick in picks:
        ratios = [estimate / cycles for estimate, cycles in pick.orders.values()]
        table.add_row(
            pick.name,
            pick.picked,
            pick.fastest,
            f"{pick.cycles:,}",
            f"{pick.over:.2f}",
            f"{pick.estimate:,.0f}",
            f"{pick.ratio:.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            ("yes" if pick.met else "no") if pick.right else "WRONG",
        )
    return table
