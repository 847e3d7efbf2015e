"""A program in firmware: the C driver loads it, and runs it on the simulated chip without Python.

``make driver`` compiles ``sw/driver`` with all warnings as errors, runs a sparse network twice, by
polling and by the interrupt, and compares every bit with what Python computes.
"""

import argparse
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import PRESETS, ChipConfig, NumberFormat
from loopnest_hw.definitions import c_header
from loopnest_hw.program import program as command
from loopnest_sim.library import build_simulator

from ..chip import Chip
from ..compile import compile
from ..epilogue import Epilogue
from ..formats import numbers
from ..kernel.verilog import cached_verilog
from ..program.program import Assignment, Program
from ..progress import task

SOURCES = Path(__file__).parents[2] / "driver"
"""The driver and the program that runs it; they are beside the package in the repository."""

PARTS = ("simulated.c", "loopnest_driver.c", "loopnest_steps.c")

FLAGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2")

LAYERS, WIDTH, BATCH = 3, 48, 4


def compile_driver(config: ChipConfig, folder: Path, main: Path = SOURCES / "simulate.c") -> Path:
    """Compile the driver for a chip, with a program that runs it on the simulator; return that.

    Raises
    ------
    FileNotFoundError
        If the sources are not there.
    subprocess.CalledProcessError
        If the compiler refuses them.
    """
    if not SOURCES.is_dir():
        raise FileNotFoundError(f"{SOURCES}: expected the driver's sources, of the repository")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loopnest.h").write_text(c_header(config))
    made = folder / main.stem
    parts = (main, *(SOURCES / name for name in PARTS))
    files = [str(path) for path in parts]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    arguments = [*compiler, *FLAGS, f"-I{folder}", f"-I{SOURCES}", "-o", str(made), *files, "-ldl"]
    subprocess.run(arguments, check=True)
    return made


def simulate(driver: Path, config: ChipConfig, *words: Path | str) -> str:
    """Run a program with the driver on the simulated chip: its arguments are the simulator and
    these, as the image and commands for `simulate.c`; return what it prints.

    Raises
    ------
    RuntimeError
        With its message, if it ends with an error.
    """
    with task(f"compiling the chip ({config.dtype.value}, {config.multipliers} multipliers)"):
        library = build_simulator(cached_verilog(config), top="loopnest")
    found = subprocess.run(
        [str(driver), str(library), *map(str, words)], capture_output=True, text=True
    )
    if found.returncode:
        raise RuntimeError(found.stderr.strip())
    return found.stdout


def elements(array: NDArray[Any], config: ChipConfig, *, wide: bool = False) -> bytes:
    """Return an array as the driver takes it: row-major, in the chip's number format."""
    flat = np.ascontiguousarray(array, np.float64).reshape(-1)
    return numbers.encode(flat, config.dtype, wide, lambda k: (k,)).tobytes()


def run_twice(
    program: Program, driver: Path, folder: Path, runs: Sequence[Mapping[str, NDArray[Any]]]
) -> list[dict[str, NDArray[Any]]]:
    """Run a program in firmware with these inputs, one run after the other in the same memory, by
    polling and by the interrupt in turn; return the results.
    """
    config = program.contents.config
    (image,) = program.export(folder / "program.bin")
    words: list[str] = []
    for n, inputs in enumerate(runs):
        for name, array in inputs.items():
            path = folder / f"{name}-{n}.raw"
            path.write_bytes(elements(array, config))
            words += ["in", name, str(path)]
        words += ["run", ("polling", "interrupt")[n % 2]]
        for name in program.results:
            words += ["out", name, str(folder / f"{name}-{n}.raw")]
    simulate(driver, config, image, *words)
    found = []
    for n in range(len(runs)):
        results = {}
        for name in program.results:
            raw = np.fromfile(folder / f"{name}-{n}.raw", np.uint8)
            results[name] = raw
        found.append(results)
    return found


def network(rng: np.random.Generator) -> tuple[list[Assignment], dict[str, Any]]:
    """Return layers with sparse weights and compressed activations, and an input."""
    relu = Epilogue(bias=-np.ones(WIDTH), scale=1 / 4, relu=True, out="narrow")
    layers = [
        Assignment(
            statement=f"h{n + 1}[b,o] = h{n}[b,i] * W{n}[o,i]",
            epilogue=relu if n < LAYERS - 1 else None,
        )
        for n in range(LAYERS)
    ]
    weights = {f"W{n}": sp.csr_array(_draw(rng, (WIDTH, WIDTH), 0.2)) for n in range(LAYERS)}
    return layers, {"h0": _draw(rng, (BATCH, WIDTH), 0.5), **weights}


def _draw(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> NDArray[Any]:
    values = rng.integers(-4, 5, shape).astype(np.float64)
    return np.where(rng.random(shape) < density, values, 0)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="single")
    parser.add_argument("--dtype", choices=[f.value for f in NumberFormat], default="bf16")
    parser.add_argument("--output", type=Path, default=Path("build/driver"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    chip = Chip(options.preset, dtype=options.dtype, backend="model")
    rng = np.random.default_rng(1)
    layers, inputs = network(rng)
    program = compile(layers, inputs, chip=chip)
    driver = compile_driver(chip.config, options.output)
    print(f"compiled with {' '.join(FLAGS)}: {driver}")
    runs = [{"h0": inputs["h0"]}, {"h0": _draw(rng, (BATCH, WIDTH), 0.9)}]
    (name,) = program.results
    for n, found in enumerate(run_twice(program, driver, options.output, runs)):
        expected = np.asarray(program.run(**runs[n])[name])
        same = found[name].tobytes() == expected.tobytes()
        how = ("polling", "the interrupt")[n % 2]
        print(f"run {n + 1}, by {how}: {'equal' if same else 'NOT equal'} to Python's, bit for bit")
        if not same:
            return 1
    print(simulate(driver, chip.config, options.output / "program.bin", "tensors", "run",
                   "polling", "counters"), end="")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
