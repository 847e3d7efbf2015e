"""Exceptions and signals in the middle of a run: the next run on the same chip is right."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from loopnest import Chip, ChipError, Memory
from loopnest_sim.simulator import SimulationError
from tests.rtl.chips import QUICK, SEVERAL, Bits, Pair, on, simulator
from tests.rtl.kernels import KINDS, random_operands

MEMORIES = (
    QUICK,
    Memory(latency=100, fill=0xA5),
    Memory(latency=40, fill=0xA5, stall=0.2, reorder=True),
)
FORMS = {name: (kind.statement, kind.arguments()) for name, kind in KINDS.items()}
"""A statement of every kind, and what it is computed with."""


MAX_SIZE = 12
MAX_CYCLES = 2000
"""Of most runs with indices of that size."""


class Stop(BaseException):
    """What is raised, as KeyboardInterrupt is, from anywhere."""


def random_case(seed: int, dtype: str) -> dict[str, Any]:
    """Return a statement of some kind, its operands and what else `Chip.compute` takes."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(list(FORMS)))
    statement, arguments = FORMS[name]
    sizes = {index: int(rng.integers(1, MAX_SIZE)) for index in "ijk"}
    operands = random_operands(KINDS[name], sizes, rng, dtype)
    return {"statement": statement, **arguments, **operands}


class Trap:
    """Ends a run of a simulator: behind a call of its library, or after some cycles.

    Parameters
    ----------
    calls : int, optional
        It raises behind this call, from 1.
    cycles : int, optional
        Or after so many cycles of the first call that runs a kernel.
    """

    def __init__(self, sim: Any, *, calls: int | None = None, cycles: int | None = None) -> None:
        self._sim, self._calls, self._cycles = sim, calls, cycles
        self._real = sim._call
        self.seen = 0

    def __call__(self, name: str, *arguments: Any) -> int:
        self.seen += 1
        if name == "run" and self._cycles is not None:
            self._real("step", self._cycles)
            raise Stop
        found = int(self._real(name, *arguments))
        if self.seen == self._calls:
            raise Stop
        return found

    def __enter__(self) -> "Trap":
        self._sim._call = self
        return self

    def __exit__(self, *_: Any) -> None:
        del self._sim._call


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Let a signal raise `Stop` in the block, once this time has passed."""

    def stop(*_: Any) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@on("shrunk/int8", SEVERAL)
@pytest.mark.parametrize("first", range(0, 300, 50))
def test_any_exception(pair: Pair, first: int) -> None:
    """It comes between any two calls of the library, or after any number of cycles, and sometimes
    again while the chip is stopped.
    """
    for seed in range(first, first + 50):
        rng = np.random.default_rng([seed, 1])
        memory = MEMORIES[seed % len(MEMORIES)]
        chip = pair.chip(memory)
        sim = simulator(chip)
        cut, after = random_case(2 * seed, pair.dtype), random_case(2 * seed + 1, pair.dtype)
        inside = {"cycles": int(MAX_CYCLES ** rng.random())}
        between = {"calls": int(rng.integers(1, 20))}
        with pytest.raises(Stop), Trap(sim, **(inside if rng.random() < 0.7 else between)):
            chip.compute(**cut)
        assert chip.report is None
        if rng.random() < 0.3:
            with pytest.raises(Stop), Trap(sim, calls=int(rng.integers(1, 9))):
                chip.compute(**after)
        pair.run(**after, memory=memory)


@on("shrunk/int8", SEVERAL)
def test_a_progress_function_that_raises(pair: Pair) -> None:
    """It sees the cycles grow, and ends the run."""
    seen: list[tuple[int, int]] = []

    def watch(done: int, expected: int) -> None:
        seen.append((done, expected))
        if len(seen) == stop:
            raise Stop

    chip = Chip(pair.preset, dtype=pair.dtype, memory=QUICK, progress=watch, **pair.overrides)
    case = random_case(6, pair.dtype)
    rng = np.random.default_rng(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loopnest_sim.simulator.FIRST_CYCLES", 1)
        stop = 0
        expected = Bits(chip.compute(**case))
        cycles, estimates = zip(*seen, strict=True)
        assert list(cycles) == sorted(set(cycles)) and len(cycles) > 4
        assert len(set(estimates)) == 1 and estimates[0] > 0
        for stop in rng.integers(1, len(seen), 8):
            seen.clear()
            with pytest.raises(Stop):
                chip.compute(**case)
            stop = 0
            assert Bits(chip.compute(**case)) == expected


@on("shrunk/int8", SEVERAL)
def test_no_trace_is_left(pair: Pair) -> None:
    """A run takes the cycles that it takes on a new chip."""
    case = random_case(6, pair.dtype)
    new = Chip(pair.preset, dtype=pair.dtype, memory=QUICK, **pair.overrides)
    new.compute(**case)
    assert new.report is not None and new.report.cycles is not None
    cycles = new.report.cycles
    for cut in np.random.default_rng(1).integers(1, cycles, 20):
        with pytest.raises(Stop), Trap(simulator(new), cycles=int(cut)):
            new.compute(**case)
        new.compute(**case)
        assert new.report is not None and new.report.cycles == cycles


@on("shrunk/int8", SEVERAL)
def test_signals_at_random_times(pair: Pair) -> None:
    chip, model = pair.chip(), pair.model
    rng = np.random.default_rng(3)
    stopped = 0
    for seed in range(60):
        case = random_case(500 + seed, pair.dtype)
        for backend in (chip, model):
            try:
                with alarm(float(rng.uniform(1e-4, 0.02))):
                    backend.compute(**case)
            except Stop:
                stopped += 1
        pair.run(**random_case(700 + seed, pair.dtype))
    assert stopped > 20


@on("shrunk/int8", SEVERAL)
def test_a_chip_that_does_not_end(pair: Pair) -> None:
    """The interrupt does not come, or the memory or the registers do not answer."""
    chip = Chip(pair.preset, dtype=pair.dtype, memory=QUICK, **pair.overrides)
    sim = simulator(chip)
    case, after = random_case(6, pair.dtype), random_case(8, pair.dtype)
    expected = Bits(pair.run(**after))

    def fail(*_: Any) -> int:
        raise SimulationError("no interrupt")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SimulationError):
        patch.setattr(sim, "run_until_interrupt", fail)
        chip.compute(**case)
    assert Bits(chip.compute(**after)) == expected

    sim.mute(True)
    with pytest.raises(ChipError, match="TIMEOUT"):
        chip.compute(**case)
    with pytest.raises(Stop), Trap(sim, cycles=20):
        chip.compute(**case)
    sim.mute(False)
    assert Bits(chip.compute(**after)) == expected

    with pytest.raises(Stop), Trap(sim, cycles=20):
        chip.compute(**case)
    with pytest.MonkeyPatch.context() as patch:
        resets = []
        real = sim.reset
        patch.setattr(sim, "register", fail)
        patch.setattr(sim, "reset", lambda: (resets.append(1), real(), patch.undo()))
        assert Bits(chip.compute(**after)) == expected
        assert resets
    assert not sim.violations
