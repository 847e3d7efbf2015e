"""A program on the golden model and on the chip, which have to agree bit for bit."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import scipy.sparse as sp

from loopnest import Chip, Program, RunReport
from loopnest.progress import task

from .options import chip_of

P = TypeVar("P", bound=Program)

MAX_ERROR = 0.03
"""What bf16 may change a result by, as a share of the largest one."""


@dataclass
class Checked(Generic[P]):
    """A run on the backend that the options say.

    Attributes
    ----------
    program : Program
    report : RunReport
    results : dict of str to array
        By the names that the program has for them.
    problems : list of str
        What is wrong.
    """

    program: P
    report: RunReport
    results: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    @property
    def result(self) -> Any:
        """The result of a program that has one."""
        (found,) = self.results.values()
        return found

    def error(self, expected: Mapping[str, Any]) -> float:
        """Return the largest difference of results from what float32 gives, as a share of the
        largest number; more than `MAX_ERROR` is a problem.
        """
        errors = (
            np.max(np.abs(self.results[name] - exact)) / np.max(np.abs(exact))
            for name, exact in expected.items()
        )
        error = float(max(errors))
        if error > MAX_ERROR:
            self.problems.append(f"the results differ from those of float32 by {error:.1%}")
        return error


def run_checked(
    options: argparse.Namespace,
    compiled: Callable[[Chip], P],
    label: str = "",
    dtype: str = "bf16",
) -> Checked[P]:
    """Run a program on the golden model, and on the chip if that is the backend; results that
    differ in a bit are problems.

    Parameters
    ----------
    compiled : callable
        Returns the program for a chip; both backends run the same plans.
    label : str
        Which one of several programs it is, for progress and problems.
    dtype : str
        The chip's.
    """
    before = f"{label}: " if label else ""
    with task(f"{before}golden model", keep=True):
        program = compiled(chip_of(options, dtype, "model"))
        results = golden = program.run()
    if options.backend == "rtl":
        with task(f"{before}building the chip", keep=True):
            chip = chip_of(options, dtype)
        with task(f"{before}chip", keep=True):
            program = program.on(chip)
            results = program.run()
    report = program.report
    assert isinstance(report, RunReport)
    problems = [
        f"{before}{name} is not the golden model's"
        for name, found in results.items()
        if not same_bits(found, golden[name])
    ]
    return Checked(program, report, results, problems)


def same_bits(one: Any, other: Any) -> bool:
    """Return whether two results, dense or CSR arrays, are the same in every bit."""
    if not sp.issparse(one):
        return bool(np.asarray(one).tobytes() == np.asarray(other).tobytes())
    parts = ("indptr", "indices", "data")
    return all(getattr(one, p).tobytes() == getattr(other, p).tobytes() for p in parts)
