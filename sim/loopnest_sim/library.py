"""Builds the library of a simulator: the chip's Verilog, wrapped, and ``harness.cpp``."""

import os
import shutil
import tempfile
from pathlib import Path

from .build import BuildError, build_once, compile_verilog, digest, find_verilator
from .modules import memory_ports, shared_module
from .sockets import MODULE, split
from .waves import FST_LIBRARIES, LZ4
from .wrapper import WRAPPER, wrap

HARNESS = Path(__file__).with_name("harness.cpp")
MEMORY = Path(__file__).with_name("memory.h")
SOCKETS = [Path(__file__).with_name(name) for name in ("sockets.h", "workers.h")]
"""What `HARNESS` includes."""

MODULE_CLASS = "Vmodule"
MODULE_ARCHIVE = f"{MODULE_CLASS}__ALL.a"
"""C++ class of a module that is compiled by itself, and the file of its code."""

OPTIONS = (
    *("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert"),
    *("-Wno-fatal", "-Wno-lint", "--no-timing", "--output-split", "20000"),
    # a module with many instances is compiled once: a fifth less compile time, no slower
    *("--inline-mult", "100"),
    # a separate library: nothing is shared with other designs in the process
    *("-CFLAGS", "-fPIC -fvisibility=hidden -fno-gnu-unique"),
)
"""Verilator's options."""

PROGRAM = ("--exe", "-LDFLAGS", "-shared -Wl,-Bsymbolic -pthread")
"""Further options for what is linked."""

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
        ``fst`` or ``vcd`` for a library that can record waves. No module is compiled by itself
        then: the waves of all instances are in one file.
    """
    module = shared_module(verilog_text, top)
    parts = split(verilog_text, module) if module and not trace else None
    options = (*OPTIONS, *PROGRAM, *((f"--trace-{trace}", *TRACED) if trace else ()))
    options += ("-CFLAGS", f"-DMEMORY_PORTS={memory_ports(verilog_text, top)}")
    included = [MEMORY]
    if parts:
        options += ("-CFLAGS", "-DSOCKETS", "-LDFLAGS", MODULE_ARCHIVE)
        included += SOCKETS
        verilog_text = f"{parts.design}\n{wrap(verilog_text, top, parts.events)}"
    else:
        verilog_text = f"{verilog_text}\n{wrap(verilog_text, top)}"
    variables = (*FLAGS, FST_LIBRARIES) if trace == "fst" else FLAGS
    headers = (LZ4,) if trace == "fst" else ()
    version = find_verilator().version
    texts = [verilog_text, parts.module + parts.header if parts else ""]
    texts += [file.read_text("utf-8") for file in (HARNESS, *included, *headers)]
    key = digest(*texts, version, *options, *variables)

    def build(folder: Path) -> None:
        source = folder / f"{top}.v"
        source.write_text(verilog_text, "utf-8")
        for file in included:
            shutil.copyfile(file, folder / file.name)
        if parts:
            (folder / "ports.h").write_text(parts.header, "utf-8")
            for file in _build_module(parts.module).iterdir():
                shutil.copyfile(file, folder / file.name)
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
        (folder / MODULE_ARCHIVE).unlink(missing_ok=True)

    return build_once(cache_folder() / f"{top}-{key}", build) / "simulator.so"


def _build_module(verilog_text: str) -> Path:
    """Return the folder of a module's model, built if it is not in the cache: several designs may
    have instances of it.
    """
    key = digest(verilog_text, find_verilator().version, *OPTIONS, *FLAGS)

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as other:
            source = Path(other) / "module.v"
            source.write_text(verilog_text, "utf-8")
            compile_verilog(
                folder,
                cache_folder(),
                OPTIONS,
                [source],
                top=MODULE,
                output=MODULE_ARCHIVE,
                make_variables=FLAGS,
                prefix=MODULE_CLASS,
            )

    return build_once(cache_folder() / f"module-{key}", build)
