"""The command line's commands for programs: compile, run, and what ``info`` tells of one."""

import argparse
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from rich.console import Console
from rich.table import Table

from loopnest_hw.config import ChipConfig, parse_overrides
from loopnest_sim.memory import Memory

from ..chip import Chip
from ..compile import compile
from ..expression.operand import Operand
from ..formats.files import check_writable, write_tensor
from ..formats.files.archives import read_arrays
from ..load import load
from ..program.saved import saved_configuration
from ..program.start import Start
from ..progress import task
from .files import (
    add_configuration,
    add_latency,
    add_run,
    check_reports,
    read_operands,
    show,
    write_reports,
)

SUFFIX = ".lnp"

MODELS = (".onnx",)
"""Suffixes of models that `loopnest.compile` reads."""


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments to the parser."""
    made = add("compile", _compile, "compile statements or a model to a program")
    made.add_argument(
        "words", nargs="+", metavar="WORD",
        help="statements, or a model (.onnx); and their tensors, as NAME=FILE or NAME=number",
    )  # fmt: skip
    add_configuration(made)
    made.add_argument("-o", "--output", required=True, metavar="FILE", help=f"the {SUFFIX} file")
    made.add_argument(
        "--calibrate", metavar="FILE", help="examples of the inputs by name (.npz), for a model"
    )
    add_latency(made)
    made.add_argument("--export", metavar="FILE", help="an image for firmware besides")
    run = add("run", _run, "run a saved program")
    run.add_argument("program", help=f"{SUFFIX} file")
    run.add_argument(
        "inputs", nargs="*", metavar="INPUT",
        help=".npz file with arrays by name, or NAME=FILE; others are what it was compiled for",
    )  # fmt: skip
    add_latency(run)
    add_run(run, "where the results go: .npz, or that of one result")


def is_program(file: str | Path) -> bool:
    """Return whether a file's name is that of a saved program."""
    return Path(file).suffix == SUFFIX


def describe(path: str | Path) -> str:
    """Return what there is to tell of a saved program: its inputs and results, its kernels, the
    memory that it takes, and the cycles that it is expected to run.
    """
    chip = _chip(saved_configuration(path), backend="model")
    program = load(path, chip=chip)
    contents = program.contents
    starts = [stage for stage in contents.stages if isinstance(stage, Start)]
    table = Table(title=f"{path}: {contents.text}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    config = chip.config
    table.add_row("chip", f"{config.dtype.value}, {config.multipliers} multipliers")
    for name, operand in contents.inputs.items():
        table.add_row(f"input {name}", _described(operand))
    for name, outcome in contents.outcomes.items():
        table.add_row(f"result {name}", " x ".join(map(str, outcome.operand.shape)) or "a number")
    kernels = sum(len(start.image.kernels) for start in starts)
    table.add_row("kernels", f"{kernels:,} in {len(starts)} starts".replace("1 starts", "1 start"))
    for stage in contents.stages:
        if not isinstance(stage, Start):
            table.add_row("host", getattr(stage, "what", ""))
    memory = max((start.image.end for start in starts), default=0)
    table.add_row("memory", f"{memory:,} bytes")
    table.add_row("file", f"{Path(path).stat().st_size:,} bytes")
    table.add_row("expected", f"{sum(contents.expected.values()):,.0f} cycles")
    console = Console(width=100, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().split("\n"))


def _described(operand: Operand) -> str:
    shape = " x ".join(map(str, operand.shape)) or "a number"
    return f"{shape}, up to {2 * operand.nnz:,} entries" if operand.sparse else shape


def _chip(config: ChipConfig, **settings: Any) -> Chip:
    """Return a chip of a configuration."""
    own = {name: value for name, value in vars(config).items() if name != "dtype"}
    return Chip(dtype=config.dtype.value, **settings, **own)


def _compile(options: argparse.Namespace, console: Console) -> int:
    if not is_program(options.output):
        raise ValueError(f"{options.output}: expected a name that ends in {SUFFIX}")
    check_writable(options.output)
    if options.export:
        check_writable(options.export)
    given = [word for word in options.words if word.partition("=")[0].isidentifier()]
    models = [word for word in options.words if Path(word).suffix in MODELS]
    given = [word for word in given if "=" in word and word not in models]
    source: Any = [word for word in options.words if word not in given]
    inputs: Any = read_operands(given)
    if models:
        if len(source) > 1:
            raise ValueError(f"{models[0]}: expected one model, and no statements")
        source = Path(models[0])
    if options.calibrate:
        inputs |= _arrays(options.calibrate)
    if not source:
        raise ValueError(f"{given[0]!r}: expected a statement, with spaces around =, or a model")
    chip = Chip(
        options.preset,
        dtype=options.dtype,
        memory=Memory(latency=options.latency),
        backend="model",
        **parse_overrides(options.set),  # type: ignore[arg-type]
    )
    with task("compiling the program"):
        program = compile(source, inputs or None, chip=chip)
        program.save(options.output)
    if options.export:
        for path in program.export(options.export):
            console.print(f"image for firmware: {path}", markup=False, highlight=False)
    print(describe(options.output))
    return 0


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.output:
        check_writable(options.output)
    check_reports(options)
    memory = Memory(latency=options.latency, bytes_per_cycle=options.bytes_per_cycle)
    config = saved_configuration(options.program)
    # the file is checked before the time of building a simulator is spent
    model = load(options.program, chip=_chip(config, backend="model"))
    inputs: dict[str, Any] = {}
    for word in options.inputs:
        inputs |= read_operands([word]) if "=" in word else _arrays(word)
    for name, array in inputs.items():
        known = model.contents.inputs.get(name)
        if known is not None and known.sparse and not sp.issparse(array):
            inputs[name] = sp.coo_array(array)
    single = options.output and Path(options.output).suffix != ".npz"
    if single and len(model.contents.outcomes) > 1:
        raise ValueError(f"{options.output}: several results: expected a name that ends in .npz")
    chip = _chip(config, memory=memory, backend=options.backend)
    program = load(options.program, chip=chip)
    results = program.run(**inputs)
    if single:
        (result,) = results.values()
        write_tensor(options.output, result)
    elif options.output:
        np.savez(options.output, **{name: _whole(value) for name, value in results.items()})
    else:
        for name, value in results.items():
            print(f"{name}:")
            show(value)
    assert program.report is not None
    write_reports(options, console, program.report)
    return 0


def _arrays(path: str) -> Mapping[str, Any]:
    """Return the arrays of a .npz file by name."""
    try:
        with Path(path).open("rb") as file:
            return read_arrays(file)
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from None


def _whole(result: Any) -> Any:
    """Return a result as an array."""
    if sp.issparse(result):
        return result.toarray()
    return result.to_dense() if hasattr(result, "to_dense") else np.asarray(result)
