"""What a run took, and what it could have taken at best."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.registers import STAGES
from loopnest_sim.memory import Memory

from .backends import Counters
from .lower import Kernel
from .tensor import Tensor

STATES = ("busy", "starved", "stalled")


@dataclass(frozen=True)
class RunReport:
    """One run; what a backend does not count is None.

    Attributes
    ----------
    statement, order : str
        What was computed, and the loops.
    cycles : int or None
        From the start register to the end of the last write.
    multiplies : int
        Lanes with all their factors present.
    leaf_steps : int
        Steps of the leaf row.
    bytes_read, bytes_written : int or None
        Over the memory port.
    roof : float
        Fewest cycles by multipliers and memory rate, from the tensors alone.
    roof_share : float or None
        ``roof / cycles``.
    pe_roof : float
        Fewest cycles of one PE, in steps and lines.
    pe_roof_share : float or None
        ``pe_roof / cycles``.
    passes, evictions : int or None
        Further passes of result fibers, and accumulator slots given up.
    stalls : mapping of str to (mapping of str to int)
        For each stage, the cycles in which it was busy, starved or stalled.
    """

    statement: str
    order: str
    cycles: int | None
    multiplies: int
    leaf_steps: int
    bytes_read: int | None
    bytes_written: int | None
    roof: float | None
    roof_share: float | None
    pe_roof: float | None
    pe_roof_share: float | None
    passes: int | None = None
    evictions: int | None = None
    stalls: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n")

    def __rich__(self) -> Table:
        table = Table(title=f"{self.statement}   order {self.order or '-'}", title_justify="left")
        table.add_column("")
        table.add_column("", justify="right")
        rows: list[tuple[str, float | None, float | None]] = [
            ("cycles", self.cycles, None),
            ("multiplies", self.multiplies, None),
            ("leaf steps", self.leaf_steps, None),
            ("bytes read", self.bytes_read, None),
            ("bytes written", self.bytes_written, None),
            ("roof", self.roof, self.roof_share),
            ("PE roof", self.pe_roof, self.pe_roof_share),
            ("further passes", self.passes, None),
        ]
        for name, value, share in rows:
            if value is not None:
                text = f"{value:,.0f}" + ("" if share is None else f"  ({share:.0%})")
                table.add_row(name, text)
        for stage, states in self.stalls.items():
            text = ", ".join(f"{states[state]:,} {state}" for state in STATES)
            table.add_row(f"{stage} stage", text)
        return table

    def __str__(self) -> str:
        console = Console(width=100, highlight=False, force_terminal=False, no_color=True)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip()


def make_report(
    config: ChipConfig, memory: Memory, kernel: Kernel, result: Tensor, counters: Counters
) -> RunReport:
    """Return the report of a finished kernel."""
    counted = counters.values
    cycles = counted.get("cycles")
    roof: float | None = None
    pe_roof: float | None = None

    def share(best: float | None) -> float | None:
        return None if best is None or not cycles else best / cycles

    def lines(name: str) -> int | None:
        return counted[name] * LINE_BYTES if name in counted else None

    return RunReport(
        statement=str(kernel.plan.statement),
        order="".join(kernel.plan.loops),
        cycles=cycles,
        multiplies=counted["multiplies"],
        leaf_steps=counted["leaf_steps"],
        bytes_read=lines("lines_read"),
        bytes_written=lines("lines_written"),
        roof=roof,
        roof_share=share(roof),
        pe_roof=pe_roof,
        pe_roof_share=share(pe_roof),
        passes=counted.get("passes"),
        evictions=counted.get("evictions"),
        stalls={
            stage: {state: counted[f"{stage}_{state}"] for state in STATES}
            for stage in STAGES
            if f"{stage}_busy" in counted
        },
    )
