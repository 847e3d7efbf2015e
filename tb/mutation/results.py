"""The outcome of each mutant, appended to a file."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

OUTCOMES = ("bench", "chip", "equivalent", "survived")
"""Killed by the unit's bench, or by the whole chip's; proved equivalent; none of these."""


@dataclass(frozen=True)
class Result:
    """A mutant and its outcome.

    Parameters
    ----------
    unit, design : str
        Where it is.
    options, wire, source : str
        The mutation (`tb.mutation.mutants.Mutation`).
    outcome : str
        One of `OUTCOMES`.
    detail : str
        What failed first.
    seconds : float
        Of the runs.
    """

    unit: str
    design: str
    options: str
    wire: str
    source: str
    outcome: str
    detail: str
    seconds: float

    @property
    def mutant(self) -> tuple[str, str]:
        """The mutant's key."""
        return self.design, self.options


def load_results(path: Path) -> dict[tuple[str, str], Result]:
    """Return the last result of each mutant in the file."""
    lines = path.read_text().splitlines() if path.exists() else []
    results = (Result(**json.loads(line)) for line in lines)
    return {result.mutant: result for result in results}


def append_result(path: Path, result: Result) -> None:
    """Add a result to the file; of several for a mutant the last one counts."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def table_of(results: Iterable[Result]) -> Table:
    """Return the counts of each unit, and of all."""
    counts: dict[str, dict[str, int]] = {}
    for result in sorted(results, key=lambda result: result.unit):
        for unit in (result.unit, "all"):
            counts.setdefault(unit, dict.fromkeys(OUTCOMES, 0))[result.outcome] += 1
    total = counts.pop("all", dict.fromkeys(OUTCOMES, 0))
    table = Table(
        "unit", "mutants", "killed by its bench", "by the chip's", *OUTCOMES[2:], "killed"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for unit, count in [*counts.items(), ("all", total)]:
        if unit == "all":
            table.add_section()
        killed = count["bench"] + count["chip"]
        share = f"{killed / max(1, killed + count['survived']):.1%}"
        table.add_row(unit, str(sum(count.values())), *map(str, count.values()), share)
    return table
