"""The machine that the CPU's times are of."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def threads() -> int:
    """Return the threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model(file: Path = CPUINFO) -> str:
    """Return the CPU's name."""
    if file.exists():
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
