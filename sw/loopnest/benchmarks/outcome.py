"""Runs cases; the outcome of a case."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp

from loopnest import Chip, Tensor
from loopnest_hw.config import LINE_BYTES

from .cases import Case


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case's run; what the backend does not count is None.

    Attributes
    ----------
    right : bool
        The result equals SciPy's.
    cycles, bound : int or float or None
        Measured cycles, and the bound.
    multiplies, leaf_steps, lines_read, lines_written, passes, evictions : int or None
    stalls : mapping of str to (mapping of str to int)
        The chip's counters, as in `RunReport`.
    pe_roof : int
        Minimum cycles of the PEs and the memory ports, in one pass: from the golden model, not from
        the chip's counters.
    seconds : float
        Of the run, without the roof.
    """

    name: str
    right: bool
    cycles: int | None
    pe_roof: int
    bound: float | None
    multiplies: int
    leaf_steps: int
    lines_read: int | None
    lines_written: int | None
    passes: int | None
    evictions: int | None
    stalls: Mapping[str, Mapping[str, int]]
    seconds: float

    @property
    def met(self) -> bool | None:
        """Whether the bound is met; None if there is none."""
        if self.cycles is None or self.bound is None:
            return None
        return self.cycles <= self.bound

    @property
    def share(self) -> float | None:
        """``pe_roof / cycles``."""
        return self.pe_roof / self.cycles if self.cycles else None

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by name."""
        return asdict(self) | {"share": self.share, "met": self.met}


def run_case(chip: Chip, case: Case) -> tuple[Any, float]:
    """Return a case's result, in SciPy's form if it is sparse, and the seconds of the run."""
    start = perf_counter()
    result = chip.compute(case.statement, order=case.order, **case.operands)
    seconds = perf_counter() - start
    return result.to_scipy() if isinstance(result, Tensor) else result, seconds


def run_cases(chip: Chip, cases: Iterable[Case]) -> Iterator[Outcome]:
    """Run the cases one by one; yield the outcome of each."""
    measured: dict[str, int] = {}
    for case in cases:
        result, seconds = run_case(chip, case)
        report = chip.report
        assert report is not None
        if report.cycles is not None:
            measured[case.name] = report.cycles
        pe_roof = report.golden_pe_roof()
        yield Outcome(
            name=case.name,
            right=same(result, case.expected()),
            cycles=report.cycles,
            pe_roof=pe_roof,
            bound=case.bound.cycles(chip.memory.latency, pe_roof, measured),
            multiplies=report.multiplies,
            leaf_steps=report.leaf_steps,
            lines_read=None if report.bytes_read is None else report.bytes_read // LINE_BYTES,
            lines_written=None
            if report.bytes_written is None
            else report.bytes_written // LINE_BYTES,
            passes=report.passes,
            evictions=report.evictions,
            stalls=report.stalls,
            seconds=seconds,
        )


def same(result: Any, expected: Any) -> bool:
    """Return whether two matrices or vectors, dense or not, are equal in every element."""
    if not (sp.issparse(result) and sp.issparse(expected)):
        result, expected = (X.toarray() if sp.issparse(X) else X for X in (result, expected))
        return np.array_equal(result, expected)
    if result.shape != expected.shape:
        return False
    difference = abs(sp.coo_array(result).astype(np.float64) - sp.coo_array(expected))
    return bool(difference.nnz == 0 or difference.max() == 0)
