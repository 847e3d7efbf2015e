"""Fits an energy to each event that the chip counts, by part of the PE."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import nnls

from loopnest_hw.power.cells import Numbers

from ..report.energy import EVENTS, event_energy
from .measure import Measured

Energies: TypeAlias = dict[str, dict[str, float]]
"""For each part, the energy of each event in pJ."""


def fit(windows: Sequence[Measured]) -> Energies:
    """Return energies of events, none negative, with the least squares of relative errors.

    Every piece of a window is an equation: its energy is the sum of its events'.
    """
    counts = np.array([np.concatenate([w.events[name] for w in windows]) for name in EVENTS]).T
    energies: dict[str, Numbers] = {
        part: np.concatenate([w.parts[part] for w in windows]) * 1e12 for part in windows[0].parts
    }
    weight = 1 / np.sum(list(energies.values()), axis=0)
    found: Energies = {}
    for part, energy in energies.items():
        scale = np.maximum(counts.max(axis=0), 1)
        solution, _ = nnls(counts / scale * weight[:, None], energy * weight)
        found[part] = {
            name: round(float(pj), 4)
            for name, pj in zip(EVENTS, solution / scale, strict=True)
            if pj >= 0.001
        }
    return found


def error(energies: Mapping[str, Mapping[str, float]], window: Measured) -> float:
    """Return the relative error of a window's total energy by its events."""
    counts = {name: float(window.events[name].sum()) for name in EVENTS}
    total = sum(event_energy(energies[part], counts) for part in energies)
    return total * 1e-12 / window.total - 1
