"""Records a window of a workload's run: registers, memory outputs and counters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.power.replay import Words
from loopnest_hw.registers import COUNTERS
from loopnest_sim.memory import Memory
from loopnest_sim.recording import Recording
from loopnest_sim.simulator import Simulator
from loopnest_sim.waves import LAST

from ..chip import Chip
from ..kernel.verilog import cached_verilog
from .workloads import IDLE, find

SEED = 1

IDLE_FROM = 1000
"""Cycles after the reset from which an idle chip is recorded: its tables have been swept."""

PE = "pe"
"""The PE's instance in a chip with one."""


@dataclass(frozen=True)
class Recorded:
    """A window of a run.

    ``cycles`` and ``multiplies`` are those of the whole run.
    """

    name: str
    recording: Recording
    cycles: int
    multiplies: int
    _scope: str
    _chip: str

    def find(self, unit: str, name: str, bit: int) -> Words | None:
        """Return the values of a bit of a unit's signal, as `power.start` wants it."""
        path = ".".join([self._scope, *unit.split("/"), name] if unit else [self._scope, name])
        return self.recording.bit(path, bit) if bit < self.recording.width(path) else None

    def totals(self, cycles: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the counters' values in these cycles of the window; they never decrease."""
        found = {}
        for number, (name, _) in enumerate(COUNTERS):
            values = np.array(self.recording.values(f"{self._chip}.counters__{number}"), np.int64)
            found[name] = np.unwrap(values[list(cycles)], period=1 << 32)
        return found


@dataclass(frozen=True)
class Settings:
    """The chip that is measured."""

    preset: str = "single"
    dtype: str = "bf16"
    overrides: Mapping[str, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    @property
    def config(self) -> ChipConfig:
        """Its configuration."""
        return make_config(self.preset, self.dtype, **self.overrides)


def record(name: str, settings: Settings, cycles: int, folder: Path) -> Recorded:
    """Run a workload and record this many cycles in the middle of it.

    It is run twice: the first time tells how long it takes. A run that is shorter is recorded from
    its start to its end.
    """
    path = folder / name.replace(" ", "-").replace(",", "")
    if name == IDLE:
        waves = (path, IDLE_FROM, IDLE_FROM + cycles - 1)
        verilog = cached_verilog(settings.config)
        with Simulator(verilog, top="loopnest", memory=settings.memory, waves=waves) as chip:
            chip.step(IDLE_FROM + cycles + 1)
            file = chip.waves
        assert file is not None
        return _recorded(name, file, cycles, 0)
    _, begin, length, _ = _run(name, settings, (path, LAST, LAST))
    first = begin + max(0, length - cycles) // 2
    last = first + min(cycles, length) - 1
    file, _, length, multiplies = _run(name, settings, (path, first, last))
    return _recorded(name, file, length, multiplies)


def _run(name: str, settings: Settings, waves: tuple[Path, int, int]) -> tuple[Path, int, int, int]:
    """Run a workload; return the file, the first cycle, cycles and multiplies."""
    workload = find(name)
    operands = workload.operands(np.random.default_rng(SEED))
    overrides: Any = dict(settings.overrides)
    with Chip(
        settings.preset, dtype=settings.dtype, memory=settings.memory, waves=waves, **overrides
    ) as chip:
        chip.compute(workload.statement, **operands)
        report = chip.report
        assert report is not None and report.cycles is not None
        begin = report.to_dict()["kernels"][0]["begin"]
    return _file(waves[0]), begin, report.cycles, report.multiplies


def _file(path: Path) -> Path:
    """Return the file of waves; its suffix is its format's."""
    return next(path.with_suffix(s) for s in (".fst", ".vcd") if path.with_suffix(s).exists())


def _recorded(name: str, file: Path, cycles: int, multiplies: int) -> Recorded:
    recording = Recording(file)
    scope = min((s for s in recording.scopes if s.split(".")[-1] == PE), key=len)
    return Recorded(name, recording, cycles, multiplies, scope, scope.rpartition(".")[0])
