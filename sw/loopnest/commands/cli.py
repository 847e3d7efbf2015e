"""The command line: ``loopnest einsum "ij,jk->ik" A.mtx B.mtx -o C.mtx`` and more.

Exit codes: 0 the command did what it was asked to; 1 the chip ended with an error; 2 the arguments
or a file are not what was expected; 130 it was interrupted; 141 nothing reads what it prints.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from loopnest_hw.config import make_config, parse_overrides
from loopnest_hw.export import write_files
from loopnest_hw.program import program
from loopnest_sim.build import BuildError

from .. import __version__
from ..kernel.backends import ChipError
from ..progress import task
from . import info, programs, statements
from .files import add_configuration

OK, CHIP_ERROR, BAD_INPUT = 0, 1, 2


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)

    def warn(message: Warning | str, *_: Any) -> None:
        console.print("[yellow]warning:[/]", end=" ")
        console.print(str(message), markup=False, highlight=False, soft_wrap=True)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn  # type: ignore[assignment]
            return int(options.command(options, console))
    except BrokenPipeError:
        raise
    except (ChipError, BuildError, ValueError, TypeError, OSError) as error:
        console.print("[red]error:[/]", end=" ")
        console.print(_message(error), markup=False, highlight=False, soft_wrap=True)
        return CHIP_ERROR if isinstance(error, ChipError | BuildError) else BAD_INPUT


def _message(error: Exception) -> str:
    """Return an error in words; of one of a file, the file and the cause."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loopnest", description="Sparse tensors on the chip.")
    parser.add_argument("--version", action="version", version=f"loopnest {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(command=command)
        return found

    for module in (statements, info, programs):
        module.add_commands(add)
    verilog = add("verilog", _verilog, "write the chip's Verilog, and its registers")
    add_configuration(verilog)
    verilog.add_argument("--output", type=Path, default=Path("build/verilog"), metavar="FOLDER")
    return parser


def _verilog(options: argparse.Namespace, console: Console) -> int:
    config = make_config(options.preset, options.dtype, **parse_overrides(options.set))
    with task("writing the Verilog"):
        paths = write_files(config, options.output)
    print(*paths, sep="\n")
    return OK


if __name__ == "__main__":
    raise SystemExit(main())
