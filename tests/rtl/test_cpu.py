"""The comparison with a CPU, with a chip that counts cycles."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.benchmarks.cases import spmv_case
from loopnest.benchmarks.cpu.compared import RATIOS, Compared, Terms
from loopnest.benchmarks.cpu.measured import Measured, run_on_chip
from loopnest.benchmarks.cpu.problems import Problem
from loopnest.benchmarks.cpu.timing import Timing
from tests.rtl.chips import Pair, on


@on("single/bf16")
def test_a_row(pair: Pair) -> None:
    """Time and energy are those of the run, and are computed anew from its counters."""
    rng = np.random.default_rng(1)
    A = sp.random_array((40, 40), density=0.2, format="csr", rng=rng)
    A.data = np.ceil(8 * A.data)
    case = spmv_case("drawn", A)
    problem = Problem(kernel="SpMV", data="drawn", nonzeros=A.nnz, case=case, arrays=())
    chip = pair.chip()
    found = run_on_chip(chip, problem)
    report = chip.report
    assert report is not None and report.energy is not None
    assert found.right and found.cycles == report.cycles
    cpu = Timing(library="SciPy", threads=1, seconds=2e-6, joules={})
    row = Compared(
        Measured.of(problem, found, [cpu]), Terms(config=chip.config, period_ns=2.0, dram="DDR")
    )
    again = report.energy_with("DDR")
    assert row.energy is not None and again is not None
    assert row.energy.total == pytest.approx(again.total, rel=1e-9, abs=0)
    assert row.seconds == pytest.approx(2e-9 * report.cycles, rel=1e-9, abs=0)
    assert tuple(row.ratios()) == RATIOS and all(ratio > 0 for ratio in row.ratios().values())
