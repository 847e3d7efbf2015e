"""The file of a comparison: its settings, its rows and its geometric means."""

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import machine
from .compared import Compared, kernel_means, means
from .measured import Measured

SETTINGS = ("preset", "dtype", "set", "backend", "latency", "bytes_per_cycle", "seed")
"""The options that saved rows have to agree with, to be used again."""


def save(
    options: argparse.Namespace,
    about: Mapping[str, Any],
    notes: Sequence[str],
    rows: Sequence[Compared],
) -> None:
    """Write the file."""
    found: dict[str, Any] = {name: getattr(options, name) for name in SETTINGS}
    found |= {
        "memory": {"latency": options.latency, "bytes_per_cycle": options.bytes_per_cycle},
        "clock_ns": options.clock,
        "dram": options.dram,
        "watts": list(options.watts),
        "cpu_format": "float32",
        "machine": {**about, "python": platform.python_version()},
        "notes": list(notes),
        **means(rows),
        "by_kernel": kernel_means(rows),
        "kernels": [row.to_dict() for row in rows],
    }
    # an interrupted write leaves the file as it was
    written = options.output.with_name(options.output.name + ".new")
    written.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    written.replace(options.output)


def load(path: Path, options: argparse.Namespace) -> dict[tuple[str, str], Measured]:
    """Return what a file has measured, by kernel and data.

    Raises
    ------
    ValueError
        If it is no such file, of another machine, or its settings are others.
    """
    try:
        saved = json.loads(path.read_text())
        rows = [Measured.from_dict(row) for row in saved["kernels"]]
        settings = {name: saved[name] for name in SETTINGS}
        cpu, threads = saved["machine"]["cpu"], saved["machine"]["threads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a file that this program has written") from error
    for name, value in settings.items():
        if value != getattr(options, name):
            raise ValueError(
                f"{path}: expected --{name.replace('_', '-')} {value}, as it was measured with"
            )
    if (cpu, threads) != (machine.cpu_model(), machine.threads()):
        raise ValueError(
            f"{path}: expected a file of this machine, not of {cpu} with {threads} threads"
        )
    return {(row.kernel, row.data): row for row in rows}
