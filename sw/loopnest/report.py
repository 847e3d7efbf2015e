"""What a run took, and what it could have taken at best."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import pack, unpack
from loopnest_hw.registers import STAGES
from loopnest_sim.image import Image
from loopnest_sim.memory import Memory
from loopnest_sim.roof import Work, measure

from .backends import Counters
from .lower import Kernel

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
        Lines of the memory port, times their size.
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
    passes: int | None
    evictions: int | None
    stalls: Mapping[str, Mapping[str, int]]
    _config: ChipConfig = field(repr=False)
    _memory: Memory = field(repr=False)
    _kernel: Kernel = field(repr=False)

    @cached_property
    def work(self) -> Work:
        """What the kernel has to do, from its tensors alone: the golden model walks them."""
        image = Image()
        for address, array in self._kernel.segments:
            image.write(address, array)
        descriptor = unpack(self._config, pack(self._config, self._kernel.fields))
        return measure(self._config, image, descriptor)

    @property
    def roof(self) -> float:
        """Fewest cycles by multipliers and memory rate, each byte moved once."""
        rate = self._memory.bytes_per_cycle
        return self.work.roof(self._config, read_rate=rate, write_rate=rate)

    @property
    def roof_share(self) -> float | None:
        """``roof / cycles``."""
        return self.roof / self.cycles if self.cycles else None

    @property
    def pe_roof(self) -> int:
        """Fewest cycles of one PE: a step, a line read and a line written in each."""
        return self.work.pe_roof

    @property
    def pe_roof_share(self) -> float | None:
        """``pe_roof / cycles``."""
        return self.pe_roof / self.cycles if self.cycles else None

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by name."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}
        derived = ("roof", "roof_share", "pe_roof", "pe_roof_share")
        return own | {name: getattr(self, name) for name in derived}

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    def __rich__(self) -> Table:
        title = Text(f"{self.statement}   order {self.order or '-'}")
        table = Table(title=title, title_justify="left", show_header=False, min_width=60)
        table.add_column()
        table.add_column(justify="right")
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
    config: ChipConfig, memory: Memory, kernel: Kernel, counters: Counters
) -> RunReport:
    """Return the report of a finished kernel."""
    counted = counters.values

    def in_bytes(name: str) -> int | None:
        return counted[name] * LINE_BYTES if name in counted else None

    return RunReport(
        statement=str(kernel.plan.statement),
        order="".join(kernel.plan.loops),
        cycles=counted.get("cycles"),
        multiplies=counted["multiplies"],
        leaf_steps=counted["leaf_steps"],
        bytes_read=in_bytes("lines_read"),
        bytes_written=in_bytes("lines_written"),
        passes=counted.get("passes"),
        evictions=counted.get("evictions"),
        stalls={
            stage: {state: counted[f"{stage}_{state}"] for state in STATES}
            for stage in STAGES
            if f"{stage}_busy" in counted
        },
        _config=config,
        _memory=memory,
        _kernel=kernel,
    )
