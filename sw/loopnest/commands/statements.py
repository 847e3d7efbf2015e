"""The command line's commands for statements: compute, einsum and explain."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from loopnest_hw.config import parse_overrides
from loopnest_sim.memory import Memory

from ..chip import Chip
from ..expression.notation import Statement
from ..expression.parser import parse, parse_einsum
from ..expression.semiring import SEMIRINGS
from ..formats.files import check_output, read_tensor, write_tensor
from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import parse_levels
from .files import (
    add_configuration,
    add_latency,
    add_run,
    check_reports,
    read_operands,
    show,
    write_reports,
)


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments to the parser."""
    einsum = add("einsum", _einsum, "compute a product in einsum notation")
    einsum.add_argument("subscripts", help='such as "ij,jk->ik"')
    einsum.add_argument("files", nargs="+", metavar="file", help=".mtx, .tns, .npz or .npy")
    compute = add("compute", _compute, "compute a statement in tensor index notation")
    explain = add("explain", _explain, "show the loops of a statement and their cost")
    explain.set_defaults(backend="model", bytes_per_cycle=Memory.bytes_per_cycle)
    for command in (compute, explain):
        command.add_argument("statement", help='such as "C[i,j] = A[i,k] * B[k,j]"')
        command.add_argument("operands", nargs="+", metavar="NAME=FILE", help="or NAME=number")
    for command in (einsum, compute, explain):
        add_configuration(command)
        add_latency(command)
        _add_loops(command)
    for command in (einsum, compute):
        add_run(command, "where the result goes")


def _add_loops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--order", help="the loops, outermost first, such as ikj")
    parser.add_argument("--out", help="the result's levels, such as dense,compressed")
    parser.add_argument(
        "--mask", metavar="FILE", help="keep the result where this stores something"
    )
    parser.add_argument("--complement", action="store_true", help="or where it does not")
    parser.add_argument(
        "--semiring", choices=SEMIRINGS, default="plus_times", metavar="NAME",
        help=f"what + and * mean: {', '.join(SEMIRINGS)}",
    )  # fmt: skip


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
    return 0


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
    return 0
