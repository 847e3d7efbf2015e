"""Matrices replicated along a block diagonal, so that a kernel is long beside its start."""

from math import ceil

import scipy.sparse as sp

from loopnest import Chip

from .cases import Case, Make


def replicated(model: Chip, least: int, make: Make, name: str, A: sp.csr_array) -> Case:
    """Return the case of so many copies of a matrix that its roof is at least ``least`` cycles;
    its name has their number. ``model`` is a golden model of the chip.
    """
    case = make(name, A)
    model.compute(case.statement, order=case.order, **case.operands)
    assert model.report is not None
    copies = ceil(least / max(1, model.report.golden_pe_roof()))
    if copies == 1:
        return case
    return make(f"{name}, {copies} times", sp.csr_array(sp.block_diag([A] * copies)))
