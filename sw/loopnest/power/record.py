"""Records a window of a workload's run: registers, memory outputs and counters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.export import TOP as CHIP
from loopnest_hw.export import pe_verilog
from loopnest_hw.power.replay import WORD_BITS, Words
from loopnest_hw.registers import COUNTERS
from loopnest_sim.memory import Memory
from loopnest_sim.recording import Recording
from loopnest_sim.renamed import Renamed
from loopnest_sim.simulator import Simulator
from loopnest_sim.waves import LAST, trace_format

from ..chip import Chip
from ..kernel.verilog import cached_verilog
from .workloads import IDLE, find

SEED = 1

IDLE_FROM = 1000
"""Cycles after the reset from which an idle chip is recorded: its tables have been swept."""

TOP = "pe"
"""The top module of a PE alone, and its instance in a chip with one."""

WARM = 1024
"""Cycles recorded before a window. The waves have no small memories, and no signals whose names
begin with ``_``: what they hold follows from the cycles before."""


@dataclass(frozen=True)
class Recorded:
    """A window of a run.

    Attributes
    ----------
    recording : Recording
    warm : int
        Recorded cycles before the window, a multiple of 64.
    """

    name: str
    recording: Recording
    warm: int
    _scope: str
    _names: Renamed

    def find(self, unit: str, name: str, bit: int) -> Words | None:
        """Return the values of a bit of a unit's signal, as `power.start` wants it."""
        if (unit, name) == ("", "rst"):
            # in the chip, the PE has a further reset
            reset, hold = (self.recording.bit(f"{self._scope}.{n}", 0) for n in ("rst", "hold"))
            return reset | hold
        found = self._names.find(unit, name.removeprefix("\\"))
        if found is None:
            return None
        path = ".".join([self._scope, *filter(None, found[0].split("/")), found[1]])
        return self.recording.bit(path, bit) if bit < self.recording.width(path) else None

    def totals(self, cycles: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the counters' values in these cycles of the window; they never decrease."""
        found = {}
        chip = self._scope.rpartition(".")[0]
        at = self.warm + np.array(cycles)
        for number, (name, _) in enumerate(COUNTERS):
            values = np.array(self.recording.values(f"{chip}.counters__{number}"), np.int64)
            found[name] = np.unwrap(values[at], period=1 << 32)
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


class Recorder:
    """Records windows of workloads on a chip, into a folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._verilog = cached_verilog(settings.config)
        self.pe_verilog = pe_verilog(settings.config, TOP)
        """The PE alone."""
        self._names = Renamed(self.pe_verilog, TOP, self._verilog, f"{CHIP}.{TOP}")

    def record(self, name: str, cycles: int) -> Recorded:
        """Run a workload and record a window of this many cycles in the middle of it.

        It is run twice: the first time tells how long it takes. A run that is shorter is recorded
        from its start to its end.
        """
        path = self._folder / name.replace(" ", "-").replace(",", "")
        if name == IDLE:
            waves = (path, IDLE_FROM, IDLE_FROM + cycles)
            memory = self._settings.memory
            with Simulator(self._verilog, top=CHIP, memory=memory, waves=waves) as chip:
                chip.step(IDLE_FROM + cycles + 2)
            return self._recorded(name, path, 0)
        begin, length = self._run(name, (path, LAST, LAST))
        first = begin + max(0, length - cycles) // 2
        warm = min(WARM, first) // WORD_BITS * WORD_BITS
        self._run(name, (path, first - warm, first + min(cycles, length)))
        return self._recorded(name, path, warm)

    def _run(self, name: str, waves: tuple[Path, int, int]) -> tuple[int, int]:
        """Run a workload; return its first cycle and its cycles."""
        workload = find(name)
        operands = workload.operands(np.random.default_rng(SEED))
        settings = self._settings
        overrides: Any = dict(settings.overrides)
        with Chip(
            settings.preset, dtype=settings.dtype, memory=settings.memory, waves=waves, **overrides
        ) as chip:
            chip.compute(workload.statement, **operands)
            report = chip.report
            assert report is not None and report.cycles is not None
            begin = report.to_dict()["kernels"][0]["begin"]
        return begin, report.cycles

    def _recorded(self, name: str, path: Path, warm: int) -> Recorded:
        file = path.with_suffix(f".{trace_format()}")
        recording = Recording(file)
        scope = min((s for s in recording.scopes if s.split(".")[-1] == TOP), key=len)
        return Recorded(name, recording, warm, scope, self._names)
