"""Where the operators of a model are computed, and what they take."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..formats.pack import DENSE
from ..program.program import Program
from ..report.plain import plain
from .examples import Seen
from .graph import Graph, Node, dense

COPIES = "copies"


@dataclass(frozen=True)
class Placed:
    """Where an operator is computed.

    Attributes
    ----------
    node : Node
    where : str
        ``"chip"``, ``"host"``, or ``"view"`` where nothing is moved.
    why : str
        Of what is not on the chip; `COPIES` where a kernel does nothing but move elements.
    layer : str
        The statement of the program that computes it.
    weight_zeros : float or None
        The share of zeros of its weights, None if it has none.
    result_zeros : float
        That of its result, for the example.
    """

    node: Node
    where: str
    why: str = ""
    layer: str = ""
    weight_zeros: float | None = None
    result_zeros: float = 0.0


def with_zeros(placed: Iterable[Placed], graph: Graph, seen: Mapping[str, Seen]) -> list[Placed]:
    """Return operators with the shares of zeros of their weights and results."""
    weights = {}
    for name, array in graph.constants.items():
        whole = dense(array)
        weights[name] = whole.size, 1 - np.count_nonzero(whole) / max(1, whole.size)
    found = []
    for one in placed:
        known = [weights[name] for name in one.node.inputs if name in weights]
        # the largest constant is the weights, others are biases
        _, zeros = max(known, default=(0, None))
        found.append(replace(one, weight_zeros=zeros, result_zeros=seen[one.node.result].zeros))
    return found


class Placement(Sequence[Placed]):
    """The operators of a model, in the order in which they run; ``print`` shows a table.

    Parameters
    ----------
    placed : sequence of Placed
    program : Program
        What computes them. Without a zero (`Program.dense`) it is planned, not run, when rows are
        asked for.
    """

    def __init__(self, placed: Sequence[Placed], program: Program) -> None:
        self._placed, self._program = tuple(placed), program

    def __len__(self) -> int:
        return len(self._placed)

    def __getitem__(self, index: Any) -> Any:
        return self._placed[index]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of each operator, as ``json`` can write it: its place in the model,
        where it is computed and why, the shares of zeros of its weights and of its result for the
        example; and of the statement that computes it, perhaps with others, what its operands and
        its result are stored as, and its cycles, with those that it takes without a zero. A
        statement that only prepares for another one counts with that. Cycles are those of the last
        run, of the program or of `Program.dense`, if it counted any (``cycles_measured``,
        ``dense_measured``), otherwise those that are expected. Those without a zero are None if
        no plan is found for them, for want of memory for example.
        """
        program = self._program
        formats, measured, cycles = program.formats, program.measured, self._cycles(program)
        dense_measured: Mapping[str, int] = {}
        dense_cycles: Mapping[str, float] = {}
        with suppress(ValueError, MemoryError):
            without = program.dense()
            dense_measured, dense_cycles = without.measured, self._cycles(without)
        for placed in self._placed:
            layer = placed.layer
            yield plain(
                {
                    "operator": placed.node.operator,
                    "origin": str(placed.node),
                    "where": placed.where,
                    "why": placed.why,
                    "layer": layer,
                    "weight_zeros": placed.weight_zeros,
                    "result_zeros": placed.result_zeros,
                    "format": formats.get(layer),
                    "cycles": cycles.get(layer),
                    "cycles_measured": layer in measured,
                    "dense_cycles": dense_cycles.get(layer),
                    "dense_measured": layer in dense_measured,
                }
            )

    def _cycles(self, program: Program) -> dict[str, float]:
        """Return the cycles of the statements that operators have."""
        layers = {placed.layer for placed in self._placed}
        found, preparing = {}, 0.0
        for name, cycles in program.cycles.items():
            preparing += cycles
            if name in layers:
                found[name], preparing = preparing, 0.0
        return found

    def __str__(self) -> str:
        lines = [("operator", "where", "weights", "result", "cycles", "dense run", "format", "of")]
        before = ""
        for row in self.rows():
            zeros = [row["weight_zeros"], row["result_zeros"]]
            shown = ["" if share is None else f"{100 * share:.1f} %" for share in zeros]
            of_layer = ["", "", ""]
            if row["format"] is not None and row["layer"] != before:
                of_layer = [
                    _shown(row["cycles"], measured=row["cycles_measured"]),
                    _shown(row["dense_cycles"], measured=row["dense_measured"]),
                    _format(row["format"]),
                ]
            before = row["layer"]
            rest = f"{row['origin']}{': ' * bool(row['why'])}{row['why']}"
            lines.append((row["operator"], row["where"], *shown, *of_layer, rest))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                word if n == len(line) - 1 else f"{word:{'<<>>>><'[n]}{widths[n]}}"
                for n, word in enumerate(line)
            )
            for line in lines
        )


def _shown(cycles: float | None, *, measured: bool) -> str:
    if cycles is None:
        return ""
    return f"{'' if measured else 'about '}{cycles:,.0f}"


def _format(formats: Mapping[str, str]) -> str:
    """Return what tensors are stored as that are not dense."""
    found = [f"{name} {levels}" for name, levels in formats.items() if levels != DENSE]
    return "; ".join(found) or DENSE
