"""Every program checks its arguments before it spends time, and says in a line what is wrong."""

from pathlib import Path

import pytest
import scipy.sparse as sp

import tb.coverage.__main__ as coverage
import tb.mutation.__main__ as mutation
import tests.fuzz.__main__ as fuzz
from loopnest.benchmarks import __main__ as benchmarks
from loopnest.benchmarks import options, scaling
from loopnest.benchmarks.cpu import __main__ as cpu
from loopnest.commands import cli, files, programs, statements
from loopnest.examples import digits, waves
from loopnest.formats.files import write_tensor
from loopnest_hw import export, timing


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch) -> None:
    """Fail where a program starts to work."""

    def work(*_args, **_options) -> None:
        raise AssertionError("it should have been refused")

    for module, name in (
        (options, "Chip"), (benchmarks, "CountedChip"), (digits, "Chip"),
        (cpu, "find_libraries"),
        (files, "Chip"), (programs, "Chip"), (statements, "Chip"),
        (digits.training, "digits"), (export, "chip_verilog"), (export, "lint_waivers"),
        (timing, "pe_verilog"), (timing, "synthesize"), (fuzz, "Pair"),
        (files, "read_tensor"), (statements, "read_tensor"),
        (mutation, "load"), (mutation, "try_design"), (mutation, "settle"),
        (coverage, "run_benches"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, work)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Return a folder with a matrix, one that is not there, one without files, and a file."""
    for name in ("some", "none"):
        (tmp_path / name).mkdir()
    write_tensor(tmp_path / "some" / "arc130.mtx.gz", sp.eye_array(3))
    (tmp_path / "file").write_text("")
    return {name: tmp_path / name for name in ("some", "none", "nowhere", "file")}


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (benchmarks.main, "--matrices {nowhere}", "{nowhere}: expected a folder with *.mtx.gz"),
        (benchmarks.main, "--matrices {none}", "{none}: expected a folder with *.mtx.gz files"),
        (benchmarks.main, "--matrices {nowhere} dense", "{nowhere}: expected a folder"),
        (benchmarks.main, "--matrices {nowhere} graphs", "{nowhere}: expected a folder"),
        (
            benchmarks.main,
            "--matrices {some} dense unknown",
            "'unknown': expected some of dense, layer",
        ),
        (
            benchmarks.main,
            "--matrices {some} graphs unknown",
            "'unknown': expected some of dense, layer",
        ),
        (benchmarks.main, "unknown", "unknown: expected --matrices FOLDER"),
        (benchmarks.main, "orders", "orders: expected --matrices FOLDER"),
        (benchmarks.main, "dense --dtype fp8", "invalid choice: 'fp8'"),
        (benchmarks.main, "picks --backend model", "picks: expected --backend rtl"),
        (benchmarks.main, "picks --count 0", "--count 0: expected 1 or more"),
        (benchmarks.main, "dense --preset huge", "preset 'huge': expected one of"),
        (benchmarks.main, "dense --set slots=0", "slots"),
        (benchmarks.main, "dense --latency -1", "latency"),
        (benchmarks.main, "dense --output {file}/x.json", "{file}"),
        (benchmarks.main, "dense --output {some}", "{some}: expected a writable file"),
        (cpu.main, "unknown", "'unknown': expected some of SpMV, SpMM"),
        (cpu.main, "arc130", "matrices need --matrices FOLDER"),
        (cpu.main, "--matrices {nowhere}", "{nowhere}: expected a folder with *.mtx.gz"),
        (cpu.main, "--preset huge", "preset 'huge': expected one of"),
        (cpu.main, "--watts 5 3", "--watts 5 3: expected more than 0, the lower number first"),
        (cpu.main, "--clock 0", "--clock 0: expected more than 0"),
        (cpu.main, "--seconds nan", "--seconds nan: expected more than 0"),
        (cpu.main, "--seed -1", "--seed -1: expected 0 or more"),
        (cpu.main, "--dram SRAM", "--dram SRAM: expected pJ a bit, or one of HBM2, DDR"),
        (cpu.main, "--reuse {file}", "{file}: expected a file that this program has written"),
        (cpu.main, "--chip-again", "--chip-again: expected --reuse FILE"),
        (cpu.main, "--cpu-again", "--cpu-again: expected --reuse FILE"),
        (cpu.main, "--plot {some}", "{some}: expected a writable file"),
        (cpu.main, "--plot {nowhere}.txt", "expected the suffix of one of"),
        (cpu.main, "--output {file}/x.json", "{file}"),
        (scaling.main, "unknown", "'unknown': expected some of dense; matrices need --matrices"),
        (scaling.main, "--matrices {some} facebook", "'facebook': expected some of dense, arc130"),
        (scaling.main, "--matrices {nowhere}", "{nowhere}: expected a folder with *.mtx.gz"),
        (scaling.main, "--pes 1,x", "'1,x': expected numbers with commas between"),
        (scaling.main, "--pes 1,33", "pes=33: expected 1 to 32"),
        (scaling.main, "--set pes=2", "--set pes: expected --pes NUMBERS"),
        (scaling.main, "--backend model", "scaling: expected --backend rtl"),
        (scaling.main, "--plot {nowhere}.txt", "expected the suffix of one of"),
        (digits.main, "--preset huge", "preset 'huge': expected one of"),
        (digits.main, "--images 0", "--images 0: expected 1 or more"),
        (digits.main, "--images 451", "--images 451: expected 450 at most"),
        (digits.main, "--sparsity 1.5", "--sparsity 1.5: expected 0 to less than 1"),
        (digits.main, "--output {file}", "{file}"),
        (waves.main, "--first 5 --last 2", "expected 0 <= first cycle <= last cycle"),
        (digits.main, "--latency -1", "latency"),
        (export.main, "--output {file}", "{file}"),
        (export.main, "--preset huge", "invalid choice: 'huge'"),
        (export.main, "--set slots=0", "slots"),
        (timing.main, "--preset huge", "invalid choice: 'huge'"),
        (timing.main, "--dtype fp8", "invalid choice: 'fp8'"),
        (timing.main, "--liberty {nowhere}", "no Liberty file {nowhere}"),
        (timing.main, "--output {file}", "{file}"),
        (timing.main, "--verilog {nowhere}", "{nowhere}: expected a Verilog file"),
        (fuzz.main, "-1", "expected 0 or more"),
        (fuzz.main, "5 --kind unknown", "invalid choice: 'unknown'"),
        (fuzz.main, "5 --chips single/bf16,huge/bf16", "chip 'huge/bf16': preset 'huge'"),
        (fuzz.main, "5 --chips single", "chip 'single'"),
        (mutation.main, "-5", "-5"),
        (mutation.main, "5 --unit row/joiners", "unit 'row/joiners': expected a file of"),
        (mutation.main, "5 --skip joiner", "unit 'joiner': expected a file of"),
        (coverage.main, "--jobs 0", "--jobs 0: expected 1 or more"),
        (cli.main, "verilog --output {file}", "{file}"),
        (cli.main, "einsum ij->i {file} -o {nowhere}/y.npy", "y.npy: expected a writable file"),
        (cli.main, "einsum ij->i {file} --report {some}", "{some}: expected a writable file"),
    ],
)
def test_arguments_come_first(main, words: str, message: str, places, capsys) -> None:
    arguments = [word.format(**places) for word in words.split()]
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code
    error = capsys.readouterr().err
    assert code in (1, 2) and message.format(**places) in error
    assert "Traceback" not in error and "should have been refused" not in error
