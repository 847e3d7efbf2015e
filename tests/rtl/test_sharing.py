"""Chips on the RTL in several threads and forked processes, and closed ones."""

import copy
import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from loopnest import Chip
from tests.rtl.chips import QUICK, SEVERAL, Bits, Pair, on, simulator
from tests.rtl.test_interrupts import Stop, Trap, random_case

CASES = 300
SHOWN = 15
"""Different cases, which are computed several times."""


@on("shrunk/int8", SEVERAL)
def test_threads(pair: Pair) -> None:
    """Three threads on two chips: results and reports are those of one thread."""
    cases = [random_case(1000 + seed, pair.dtype) for seed in range(SHOWN)]

    def new() -> Chip:
        return Chip(pair.preset, dtype=pair.dtype, memory=QUICK, progress=False, **pair.overrides)

    def run(chip: Chip, case: dict[str, Any]) -> tuple[Bits, int | None, int]:
        got = chip.compute(**case)
        report = chip.report
        assert report is not None
        return Bits(got), report.cycles, report.multiplies

    alone = new()
    expected = [run(alone, case) for case in cases]
    shared, other = new(), new()
    with ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(run, other if n % 3 == 2 else shared, cases[n % SHOWN])
            for n in range(CASES)
        ]
    for n, done in enumerate(runs):
        assert done.result() == expected[n % SHOWN]
    assert not simulator(shared).violations and not simulator(other).violations


@on("shrunk/int8", SEVERAL)
def test_forked_in_the_middle_of_a_run(pair: Pair) -> None:
    """The child has a simulator of its own; the parent's is not freed, and goes on."""
    chip = Chip(pair.preset, dtype=pair.dtype, memory=QUICK, progress=False, **pair.overrides)
    cut, case = random_case(6, pair.dtype), random_case(8, pair.dtype)
    expected = Bits(chip.compute(**case))
    with pytest.raises(Stop), Trap(simulator(chip), cycles=100):
        chip.compute(**cut)
    child = os.fork()
    if not child:
        signal.alarm(100)
        right = Bits(chip.compute(**case)) == expected
        right &= Bits(pickle.loads(pickle.dumps(chip)).compute(**case)) == expected
        os._exit(0 if right else 1)
    assert Bits(chip.compute(**case)) == expected
    assert os.waitpid(child, 0)[1] == 0
    assert Bits(chip.compute(**case)) == expected


@on("shrunk/int8", SEVERAL)
def test_a_closed_chip_frees_its_simulator(pair: Pair) -> None:
    before = pair.chip()
    with copy.copy(before) as chip:
        assert np.array_equal(chip.matmul(np.eye(3), np.eye(3)), np.eye(3))
        used = simulator(chip)
        assert used.cycle > 0
    with pytest.raises(ValueError, match="the simulator is closed"):
        _ = used.cycle
    with pytest.raises(ValueError, match="the chip is closed"):
        chip.matmul(np.eye(3), np.eye(3))
    assert chip.report is not None and chip.report.cycles and "bottleneck" in str(chip.report)
