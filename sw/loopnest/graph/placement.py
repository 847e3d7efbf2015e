"""Where the operators of a model are computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """

    node: Node
    where: str
    why: str = ""
    layer: str = ""


class Placement(Sequence[Placed]):
    """The operators of a model, in the order in which they run; ``print`` shows a table."""

    def __init__(
        self,
        graph: Graph,
        seen: Mapping[str, Seen],
        placed: Sequence[Placed],
        cycles: Mapping[str, float],
    ) -> None:
        self._placed, self._cycles = tuple(placed), cycles
        self._zeros = {name: s.zeros for name, s in seen.items()}
        self._weights = {}
        for name, array in graph.constants.items():
            whole = dense(array)
            self._weights[name] = whole.size, 1 - np.count_nonzero(whole) / max(1, whole.size)

    def __len__(self) -> int:
        return len(self._placed)

    def __getitem__(self, index: Any) -> Any:
        return self._placed[index]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of each operator, as ``json`` can write it: its place in the model,
        where it is computed and why, the share of zeros of its weights and of its result for the
        example, and the cycles that the statement is expected to take which computes it, perhaps
        with others.
        """
        for placed in self._placed:
            node = placed.node
            known = [self._weights[name] for name in node.inputs if name in self._weights]
            # the largest constant is the weights, others are biases
            _, weight_zeros = max(known, default=(0, None))
            yield plain(
                {
                    "operator": node.operator,
                    "origin": str(node),
                    "where": placed.where,
                    "why": placed.why,
                    "layer": placed.layer,
                    "weight_zeros": weight_zeros,
                    "result_zeros": self._zeros[node.result],
                    "cycles": self._cycles.get(placed.layer),
                }
            )

    def __str__(self) -> str:
        head = f"{'operator':<14} {'where':<5} {'weights':>8} {'result':>8} {'cycles':>11}"
        lines, before = [f"{head}  of"], ""
        for row in self.rows():
            zeros = [row["weight_zeros"], row["result_zeros"]]
            shown = ["" if share is None else f"{100 * share:.1f} %" for share in zeros]
            rest = f"{row['origin']}{': ' * bool(row['why'])}{row['why']}"
            new = row["cycles"] is not None and row["layer"] != before
            cycles, before = f"{row['cycles']:,.0f}" if new else "", row["layer"]
            what = f"{row['operator']:<14} {row['where']:<5} {shown[0]:>8} {shown[1]:>8}"
            lines.append(f"{what} {cycles:>11}  {rest}")
        return "\n".join(lines)
