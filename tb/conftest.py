"""pytest hooks of the benches."""

import warnings
from typing import Any

from amaranth.hdl import UnusedElaboratable
from cocotb._decorators import TestGenerator

from tb.harness import MISSING_SIMULATORS


def pytest_configure() -> None:
    """Let tests make units for their ports alone.

    Python drops those at any time, in between tests too, where pytest's own filters do not reach.
    """
    warnings.simplefilter("ignore", UnusedElaboratable)


def pytest_report_header() -> list[str]:
    """Report which simulators are not installed."""
    return MISSING_SIMULATORS


def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> list[Any] | None:
    """Do not collect cocotb's tests, which are in the same files: `run_bench` runs them."""
    return [] if isinstance(obj, TestGenerator) else None
