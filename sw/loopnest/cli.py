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
from rich.table import Table

from loopnest_hw.config import PRESETS, NumberFormat, make_config, parse_overrides
from loopnest_hw.export import write_files
from loopnest_hw.program import program
from loopnest_sim.build import BuildError
from loopnest_sim.memory import Memory

from . import __version__, programs
from .chip import Chip
from .expression.notation import Statement
from .expression.parser import parse, parse_einsum
from .expression.semiring import SEMIRINGS
from .formats.files import check_output, read_tensor, write_tensor
from .formats.pack import COMPRESSED, DENSE
from .formats.tensor import parse_levels
from .info import COLUMNS, file_info
from .kernel.backends import BACKENDS, ChipError
from .programs import check_reports, read_operands, show, write_reports
from .progress import task

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

    config = argparse.ArgumentParser(add_help=False)
    formats = [f.value for f in NumberFormat]
    config.add_argument(
        "--preset", choices=PRESETS, default="single", help="the configuration (single)"
    )
    config.add_argument("--dtype", choices=formats, default="bf16", help="number format (bf16)")
    config.add_argument(
        "--set", action="append", default=[], metavar="FIELD=NUMBER",
        help="a field of the configuration, such as multipliers=8",
    )  # fmt: skip

    chip = argparse.ArgumentParser(add_help=False, parents=[config])
    chip.add_argument(
        "--latency", type=int, default=100, metavar="CYCLES", help="of the memory (100)"
    )
    chip.add_argument("--order", help="the loops, outermost first, such as ikj")
    chip.add_argument("--out", help="the result's levels, such as dense,compressed")
    chip.add_argument("--mask", metavar="FILE", help="keep the result where this stores something")
    chip.add_argument("--complement", action="store_true", help="or where it does not")
    chip.add_argument(
        "--semiring", choices=SEMIRINGS, default="plus_times", metavar="NAME",
        help=f"what + and * mean: {', '.join(SEMIRINGS)}",
    )  # fmt: skip

    run = argparse.ArgumentParser(add_help=False, parents=[chip])
    run.add_argument(
        "--backend", choices=BACKENDS, default="rtl", help="the chip (rtl), or the golden model"
    )
    run.add_argument(
        "--bytes-per-cycle", type=float, default=32, metavar="BYTES", help="of the memory (32)"
    )
    run.add_argument("-o", "--output", metavar="FILE", help="where the result goes")
    run.add_argument("--report", metavar="FILE", help="where the report goes, as JSON")
    run.add_argument("--plot", metavar="FILE", help="picture of the stages and the roofline (rtl)")
    run.add_argument("--trace", metavar="FILE", help="trace of the run, for Perfetto (rtl)")

    def add(name: str, command: Any, text: str, *parents: argparse.ArgumentParser) -> Any:
        found = commands.add_parser(name, help=text, description=text, parents=parents)
        found.set_defaults(command=command)
        return found

    einsum = add("einsum", _einsum, "compute a product in einsum notation", run)
    einsum.add_argument("subscripts", help='such as "ij,jk->ik"')
    einsum.add_argument("files", nargs="+", metavar="file", help=".mtx, .tns, .npz or .npy")
    compute = add("compute", _compute, "compute a statement in tensor index notation", run)
    explain = add("explain", _explain, "show the loops of a statement and their cost", chip)
    explain.set_defaults(backend="model", bytes_per_cycle=Memory.bytes_per_cycle)
    for command in (compute, explain):
        command.add_argument("statement", help='such as "C[i,j] = A[i,k] * B[k,j]"')
        command.add_argument("operands", nargs="+", metavar="NAME=FILE", help="or NAME=number")
    info = add("info", _info, "tell what files of tensors and of programs hold and take")
    info.add_argument("files", nargs="+", metavar="file")
    info.add_argument("--dtype", choices=formats, default="bf16", help="for the bytes (bf16)")
    programs.add_commands(add, config)
    verilog = add("verilog", _verilog, "write the chip's Verilog, and its registers", config)
    verilog.add_argument("--output", type=Path, default=Path("build/verilog"), metavar="FOLDER")
    return parser


def _chip(options: argparse.Namespace) -> Chip:
    overrides: Any = parse_overrides(options.set)
    memory = Memory(latency=options.latency, bytes_per_cycle=options.bytes_per_cycle)
    return Chip(
        options.preset, dtype=options.dtype, memory=memory, backend=options.backend, **overrides
    )


def _check_outputs(options: argparse.Namespace, statement: Statement) -> None:
    """Check, before the time of a run is spent, that the result and what is told of the run can be
    written. A .npy file asks for a dense result.
    """
    order = len(statement.result.indices)
    if options.output:
        if options.out is None and ".npy" in Path(options.output).suffixes:
            options.out = ",".join([DENSE] * order)
        levels = () if options.out is None else parse_levels(options.out, order)
        check_output(options.output, order, sparse=COMPRESSED in levels)
    check_reports(options)


def _run(
    options: argparse.Namespace, console: Console, text: str, *operands: Any, **named: Any
) -> int:
    loops = _loops(options)
    chip = _chip(options)
    method = chip.compute if named else chip.einsum
    result = method(text, *operands, **named, **loops)
    if options.output:
        write_tensor(options.output, result)
    else:
        show(result)
    assert chip.report is not None
    write_reports(options, console, chip.report)
    return OK


def _loops(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a statement besides its operands."""
    mask = read_tensor(options.mask) if options.mask else None
    return {
        "order": options.order,
        "out": options.out,
        "mask": mask,
        "complement": options.complement,
        "semiring": options.semiring,
    }


def _einsum(options: argparse.Namespace, console: Console) -> int:
    _check_outputs(options, parse_einsum(options.subscripts, len(options.files)))
    operands = [read_tensor(file) for file in options.files]
    return _run(options, console, options.subscripts, *operands)


def _compute(options: argparse.Namespace, console: Console) -> int:
    _check_outputs(options, parse(options.statement))
    return _run(options, console, options.statement, **read_operands(options.operands))


def _explain(options: argparse.Namespace, console: Console) -> int:
    operands = read_operands(options.operands)
    print(_chip(options).explain(options.statement, **_loops(options), **operands))
    return OK


def _verilog(options: argparse.Namespace, console: Console) -> int:
    config = make_config(options.preset, options.dtype, **parse_overrides(options.set))
    with task("writing the Verilog"):
        paths = write_files(config, options.output)
    print(*paths, sep="\n")
    return OK


def _info(options: argparse.Namespace, console: Console) -> int:
    saved = [file for file in options.files if programs.is_program(file)]
    for file in saved:
        print(programs.describe(file))
    found = [file_info(file, options.dtype) for file in options.files if file not in saved]
    if not found:
        return OK
    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "file" else "right")
    for info in found:
        table.add_row(*info.row())
    Console().print(table)
    for info in found:
        print(*info.notes(), sep="\n", end="\n" * bool(info.notes()))
    for info in found:
        if len(info.refused) == len(NumberFormat):
            raise ValueError(f"{info.file}: {next(iter(info.refused.values()))}")
    return OK


if __name__ == "__main__":
    raise SystemExit(main())
