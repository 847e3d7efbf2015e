"""A kernel's counters over time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.registers import COUNTERS, STAGES

from ..kernel.backends import Counters, is_time

NAMES = tuple(name for name, _ in COUNTERS)
"""The counters of every chip."""

OF_STAGES = frozenset(
    f"{stage}_{state}" for stage in STAGES for state in ("busy", "starved", "stalled")
)
"""Counters of the PEs' stages."""


@dataclass(frozen=True)
class Timeline:
    """The counts of each window of a kernel's run.

    Attributes
    ----------
    ends : array of int64
        Cycles from the start to each window's end, ascending; the last one is the kernel's.
    counts : mapping of str to array
        By the name of the counter (`loopnest_hw.registers.counters`): its increase in each window.
    """

    ends: NDArray[np.int64]
    counts: Mapping[str, NDArray[Any]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Cycles of each window."""
        lengths: NDArray[np.int64] = self.counts["cycles"]
        return lengths

    @property
    def starts(self) -> NDArray[np.int64]:
        """Cycles from the start to each window's start."""
        return self.ends - self.lengths


def per_pe(values: Mapping[str, int], pes: int) -> dict[str, int]:
    """Return counters in which each stage's cycles are the average of the PEs, not their sum."""
    return {name: n // pes if name in OF_STAGES else n for name, n in values.items()}


def make_timeline(counters: Counters, pes: int = 1) -> Timeline | None:
    """Return a run's timeline, whose sums are its counters; None if nothing was sampled. Each
    stage's cycles are the average of the PEs.
    """
    if counters.samples is None or counters.samples.shape[1] != len(counters.values):
        return None
    names = list(counters.values)
    last = np.array([list(counters.values.values())], np.uint32)
    rows = np.concatenate([counters.samples, last])
    cycles = rows[:, names.index("cycles")]
    # the first ones may belong to the previous run, until the start clears the counters
    (falls,) = np.nonzero(np.diff(cycles).astype(np.int32) < 0)
    rows = rows[falls[-1] + 1 :] if len(falls) else rows
    rows = np.concatenate([np.zeros_like(last), rows])
    # counts after the last cycle are added to it
    cycles = rows[:, names.index("cycles")]
    rows = rows[np.append(np.diff(cycles) != 0, True)]
    counts = np.diff(rows, axis=0).astype(np.int64)  # the counters have 32 bits and wrap
    named = dict(zip(names, counts.T, strict=True))
    named = {name: count for name, count in named.items() if not is_time(name)}
    if pes > 1:
        named |= {name: named[name] / pes for name in OF_STAGES}
    return Timeline(np.cumsum(named["cycles"]), named)
