"""A layer of a model, compiled as it is, without zeros and pruned: ``python -m
loopnest.benchmarks.compiled``.

A linear layer of 512 by 512 with bias and ReLU, on 64 inputs and on one; the loops and the storage
are the planner's.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import loopnest
from loopnest import Chip, Memory
from loopnest_hw.program import program

from ..graph.graph import Graph, Node
from ..report.report import RunReport
from .layer import BATCH, SIZE, Pattern, some, two_of_four
from .matrices import SEED

PATTERNS: dict[str, Pattern] = {
    "dense": some(1.0),
    "2:4": two_of_four,
    "1 of 10": some(1 / 10),
    "1 of 32": some(1 / 32),
}
"""The weights that are kept."""


def layer_of(inputs: int, pattern: Pattern, size: int = SIZE) -> Graph:
    """Return a linear layer with bias and ReLU, and inputs for it."""
    rng = np.random.default_rng(SEED)

    def drawn(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    weights = drawn(size, size) * pattern(rng)[:size, :size]
    nodes = Node("y", "linear", ("x", "w", "b")), Node("z", "relu", ("y",))
    constants = {"w": weights, "b": drawn(size)}
    return Graph({"x": drawn(inputs, size)}, constants, nodes, ("z",))


def run_layers(chip: Chip, size: int = SIZE) -> Iterator[tuple[int, str, RunReport, float]]:
    """Yield the number of inputs, the pattern, the report, and the cycles expected."""
    for inputs in (BATCH, 1):
        for name, pattern in PATTERNS.items():
            graph = layer_of(inputs, pattern, size)
            model = loopnest.compile(graph, chip=chip)
            model()
            assert model.report is not None
            yield inputs, name, model.report, sum(model.expected.values())


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the layers on the RTL and print a table; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m loopnest.benchmarks.compiled", description=__doc__
    )
    parser.add_argument("--preset", default="single")
    parser.add_argument("--dtype", choices=("bf16", "int8"), default="bf16")
    parser.add_argument("--latency", type=int, default=100, help="of the memory, in cycles")
    options = parser.parse_args(arguments)
    chip = Chip(options.preset, dtype=options.dtype, memory=Memory(latency=options.latency))
    table = Table(box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for name in ("inputs", "weights kept", "multiplies", "cycles", "expected", "faster", "PE roof"):
        table.add_column(name, justify="right")
    dense: dict[int, int] = {}
    for inputs, name, report, expected in run_layers(chip):
        assert report.cycles is not None and report.pe_roof_share is not None
        first = dense.setdefault(inputs, report.cycles)
        table.add_row(
            str(inputs),
            name,
            f"{report.multiplies:,}",
            f"{report.cycles:,}",
            f"{expected:,.0f}",
            f"{first / report.cycles:.2f}x",
            f"{report.pe_roof_share:.1%}",
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
