"""The energy of a run, from its counters and the energy of each event (``energy.json``).

The energies of events were fitted to windows of runs, whose registers were replayed through the
mapped PE (`loopnest.power`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.memory_cells import MemoryCell
from loopnest_hw.power.memories import load_sram

from ..kernel.backends import Counters
from .run_energy import RunEnergy

EVENTS = (
    "cycles",
    "multiplies",
    "leaf_steps",
    "lines_read",
    "lines_written",
    "scan_busy",
    "fetch_busy",
    "accumulate_busy",
    "drain_busy",
    "result_values",
)
"""The counters that have an energy. That of a cycle is what a PE takes in which nothing happens."""

DRAM = {
    "HBM2": (3.9, "O'Connor et al., Fine-Grained DRAM, MICRO 2017"),
    "DDR": (30.0, "Horowitz, ISSCC 2014: 1.3 to 2.6 nJ for 64 bits"),
}
"""Memories: pJ for each bit that is read or written, and the source."""

DEFAULT_DRAM = "HBM2"


class Counted(Protocol):
    """A kernel that was run on a chip, such as `bottleneck.Run`."""

    @property
    def config(self) -> ChipConfig:
        """The chip."""

    @property
    def counters(self) -> Counters:
        """The kernel's counters."""


@cache
def load_figures() -> dict[str, Any]:
    """Return the content of ``energy.json``."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath("energy.json").read_text())
    return found


def event_energy(energies: Mapping[str, float], counts: Mapping[str, float]) -> float:
    """Return the energy of a number of events, in pJ."""
    return sum(pj * counts[event] for event, pj in energies.items())


def run_energy(runs: Sequence[Counted], dram: str | float = DEFAULT_DRAM) -> RunEnergy | None:
    """Return the energy of a run's kernels; None if their cycles were not counted.

    ``dram`` is a name of `DRAM`, or pJ a bit.

    Raises
    ------
    ValueError
        For an unknown DRAM.
    """
    if isinstance(dram, str) and dram not in DRAM:
        raise ValueError(f"dram {dram!r}: expected pJ a bit, or one of {', '.join(DRAM)}")
    pj, source = DRAM[dram] if isinstance(dram, str) else (dram, "as given")
    if any("cycles" not in run.counters.values for run in runs):
        return None
    parts: dict[str, float] = {}
    notes: list[str] = []
    for run in runs:
        chip = _figures_of(run.config)
        counts = {name: float(run.counters.values[name]) for name in EVENTS}
        # every PE has a clock, whether it works or not
        counts["cycles"] *= run.config.pes
        for part, energies in chip["energies"].items():
            parts[part] = parts.get(part, 0.0) + event_energy(energies, counts) * 1e-12
        if run.config.pes > 1:
            parts["cache"] = parts.get("cache", 0.0) + _cache_energy(run)
        lines = run.counters.values["lines_read"] + run.counters.values["lines_written"]
        bits = 8 * LINE_BYTES * lines
        parts["DRAM"] = parts.get("DRAM", 0.0) + bits * pj * 1e-12
        notes += [*chip["sources"], *_notes(run.config, chip)]
    notes.append(f"{dram if isinstance(dram, str) else 'DRAM'}: {pj} pJ a bit: {source}")
    multiplies = sum(run.counters.values["multiplies"] for run in runs)
    return RunEnergy(parts, multiplies, tuple(dict.fromkeys(notes)))


def _figures_of(config: ChipConfig) -> dict[str, Any]:
    """Return the figures of the chip that is nearest to a configuration: of its number format."""
    chips: list[dict[str, Any]] = load_figures()["chips"]
    return next((c for c in chips if c["dtype"] == config.dtype.value), chips[0])


def _notes(config: ChipConfig, chip: Mapping[str, Any]) -> list[str]:
    """Return what the figures leave out for a configuration."""
    notes = ["not measured: control and dispatcher"]
    if config.pes > 1:
        notes.append(f"{config.pes} PEs: each as the one that was measured")
        notes.append("the cache is that of its data, without tags and crossbar")
    elif config.cached:
        notes.append("not counted: the cache of a single PE")
    measured = chip["configuration"]
    other = [
        f"{name}={value}"
        for name, value in asdict(config).items()
        if name not in ("dtype", "pes", "cache") and measured.get(name, value) != value
    ]
    if chip["dtype"] != config.dtype.value:
        other.insert(0, config.dtype.value)
    if other:
        notes.append(
            f"figures of {chip['preset']}, {chip['dtype']}, not scaled for {', '.join(other)}"
        )
    return notes


def _cache_energy(run: Counted) -> float:
    """Return the energy of the cache's data, in joules: a lookup reads a line, that of a miss when
    it has come; a miss writes one.
    """
    config, counted = run.config, run.counters.values
    bank = MemoryCell(8 * LINE_BYTES, config.cache_lines // config.cache_banks, 1, 1, 1)
    read, write = load_sram().energy(bank)
    lookups = sum(counted[f"cache_{outcome}"] for outcome in ("hits", "misses", "joined"))
    return lookups * read + counted["cache_misses"] * write
