"""A run's counters, sampled by the simulator."""

import numpy as np
import pytest

from loopnest_sim.memory import Memory
from loopnest_sim.simulator import MAX_SAMPLES, Simulator
from loopnest_sim.wrapper import wrap
from tests.sim.copier import LINES, SOURCE, START, TARGET
from tests.sim.test_simulator import design

SETTLED = 5
"""Cycles of the write of the start register."""


def run(sim: Simulator, lines: int) -> int:
    """Copy lines and return the cycles from the first one that is sampled."""
    for offset, value in ((START, 2), (SOURCE, 0), (TARGET, 1 << 20), (LINES, lines)):
        sim.set_register(offset, value)
    sim.begin_samples()
    sim.set_register(START, 1)
    return sim.run_until_interrupt(1_000_000)


@pytest.mark.parametrize(
    ("lines", "latency"), [(1, 1), (1, 190), (1, 198), (10, 300), (1000, 100), (20_000, 3)]
)
def test_windows(lines: int, latency: int) -> None:
    """All of the run is sampled, in windows of one length, a power of two; no more than allowed."""
    with Simulator(design(), top="copier", memory=Memory(latency=latency)) as sim:
        cycles = run(sim, lines)
        samples = sim.samples
    window = 1
    while cycles // window >= MAX_SAMPLES:
        window *= 2
    assert samples.shape == (cycles // window, 2)
    counted, written = samples.astype(np.int64).T
    assert (np.diff(counted[:-1]) == window).all()
    assert window - SETTLED <= counted[0] <= window + SETTLED
    assert (np.diff(written) >= 0).all()
    # both end where the run ends, up to the last window
    assert lines - window <= written[-1] <= lines
    if lines >= 1000:
        steady = np.diff(written)[len(written) // 3 : -len(written) // 3]
        assert (steady >= window * 0.9).all()


def test_each_run_has_its_own() -> None:
    with Simulator(design(), top="copier") as sim:
        run(sim, 1000)
        assert sim.samples[-1, 1] > 900
        cycles = run(sim, 1)
        assert len(sim.samples) == cycles
        assert sim.samples[:, 1].max() <= 1
        sim.begin_samples()
        assert len(sim.samples) == 0


def test_samples_in_pieces() -> None:
    """What interrupts a run to look at it changes no sample."""
    found = []
    for piece in (1_000_000, 7):
        with Simulator(design(), top="copier", memory=Memory(latency=50)) as sim:
            sim.set_register(LINES, 300)
            sim.begin_samples()
            sim.set_register(START, 1)
            while not sim.interrupt:
                sim._call("run", piece)
            found.append(sim.samples)
    assert np.array_equal(*found)


def test_design_without_counters() -> None:
    text = design()
    assert "assign counters = {copier.counters__1, copier.counters__0};" in wrap(text, "copier")
    assert "assign counters = {32'd0};" in wrap(text.replace("counters__", "others__"), "copier")
