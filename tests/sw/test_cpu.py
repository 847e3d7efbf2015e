"""The comparison with a CPU, on tiny matrices and on the golden model."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from loopnest import Chip
from loopnest.benchmarks.cpu import __main__ as command
from loopnest.benchmarks.cpu import by_scipy, libraries, machine, plain, tensors
from loopnest.benchmarks.cpu import problems as problems_module
from loopnest.benchmarks.cpu.candidate import Candidate
from loopnest.benchmarks.cpu.compared import RATIOS, Compared, Terms, kernel_means, means
from loopnest.benchmarks.cpu.libraries import Libraries, find_libraries
from loopnest.benchmarks.cpu.measured import Measured, OnChip
from loopnest.benchmarks.cpu.power import Meter
from loopnest.benchmarks.cpu.problems import KERNELS, Choice, Problem, make_problems
from loopnest.benchmarks.cpu.tensors import Shape
from loopnest.benchmarks.cpu.timing import Timing, best_of, time_best, time_problem
from loopnest.benchmarks.outcome import same
from loopnest.report import energy
from loopnest_hw.config import make_config


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two matrices; tensors are small too."""
    monkeypatch.setattr(command, "find_libraries", lambda: Libraries((by_scipy,), ("numba",)))
    small = {"even": Shape((9, 8, 7), 60), "skewed": Shape((6, 9, 20), 40, 3.0)}
    for module in (tensors, problems_module):
        monkeypatch.setattr(module, "TENSORS", small)
    rng = np.random.default_rng(5)
    for name, shape in {"square": (30, 30), "wide": (10, 40)}.items():
        matrix = sp.random_array(shape, density=0.2, rng=rng, format="coo")
        with gzip.open(tmp_path / f"{name}.mtx.gz", "wb") as file:
            scipy.io.mmwrite(file, matrix)
    return tmp_path


@pytest.fixture
def problems(folder: Path) -> list[Problem]:
    return list(make_problems(folder, 0, Choice()))


def arguments(folder: Path, *more: str) -> list[str]:
    files = ["--output", str(folder / "cpu.json"), "--plot", str(folder / "cpu.png")]
    quick = ["--backend", "model", "--preset", "single", "--seconds", "0.001"]
    return ["--matrices", str(folder), *quick, *files, *more]


def test_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kernel is run and right; the file says what it is of."""
    assert command.main(arguments(folder)) == 0
    found = json.loads((folder / "cpu.json").read_text())
    rows = found["kernels"]
    names = [(row["kernel"], row["data"]) for row in rows]
    assert len(set(names)) == len(names) == 1 + 2 * 2 + 5 * 2
    assert {kernel for kernel, _ in names} == set(KERNELS)
    assert all(row["chip"]["right"] and row["chip"]["cycles"] is None for row in rows)
    assert all(row["cpu_one"]["seconds"] > 0 and row["nonzeros"] > 0 for row in rows)
    assert {"cpu", "threads", "versions"} <= set(found["machine"])
    assert found["clock_ns"] > 0 and found["memory"]["latency"] == 100
    # the golden model counts no cycles
    assert all(found[ratio] is None for ratio in RATIOS)
    assert set(found["by_kernel"]) == set(KERNELS)
    printed = capsys.readouterr().out
    assert "15 rows, 0 wrong" in printed and "not installed: numba" in printed
    assert (folder / "cpu.png").stat().st_size > 0


def test_what_is_chosen(folder: Path) -> None:
    def chosen(kernels: list[str], data: list[str]) -> list[str]:
        return [p.name for p in make_problems(folder, 0, Choice(kernels, data))]

    assert chosen(["SpMV"], []) == ["SpMV wide", "SpMV square"]
    assert chosen([], ["even"]) == ["MTTKRP even", "TTV even"]
    assert chosen(["layer", "add"], ["square"]) == ["layer 90 % zeros", "add square"]
    assert [p.kernel for p in make_problems(None, 0, Choice())] == ["layer", *["MTTKRP", "TTV"] * 2]


def test_rows_are_reused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run takes the rows of the first one, and measures the others."""
    assert command.main(arguments(folder, "SpMV")) == 0
    first = json.loads((folder / "cpu.json").read_text())["kernels"]
    run = []
    on_chip = command.run_on_chip
    monkeypatch.setattr(
        command, "run_on_chip", lambda chip, p: run.append(p.name) or on_chip(chip, p)
    )
    again = arguments(folder, "SpMV", "TTV", "--reuse", str(folder / "cpu.json"))
    assert command.main(again) == 0
    rows = json.loads((folder / "cpu.json").read_text())["kernels"]
    assert run == ["TTV even", "TTV skewed"]
    assert [row for row in rows if row["kernel"] == "SpMV"] == first
    assert command.main([*again, "--cpu-again"]) == 0
    assert run[2:] == []
    with pytest.raises(SystemExit):
        command.main([*again, "--latency", "4"])
    # what a run does not come to stays, and what is run again replaces the row
    only = arguments(folder, "TTV", "even", "--reuse", str(folder / "cpu.json"), "--chip-again")
    assert command.main(only) == 0
    assert run[2:] == ["TTV even"]
    kept = json.loads((folder / "cpu.json").read_text())["kernels"]
    names = [(row["kernel"], row["data"]) for row in rows]
    assert [(row["kernel"], row["data"]) for row in kept] == names
    monkeypatch.setattr("loopnest.benchmarks.cpu.machine.threads", lambda: 999)
    with pytest.raises(SystemExit):
        command.main(again)
    assert "expected a file of this machine" in capsys.readouterr().err


def test_a_wrong_result_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loopnest.benchmarks.cpu.measured.same", lambda *_: False)
    assert command.main(arguments(folder, "SpMV", "wide")) == 1
    assert "WRONG" in capsys.readouterr().out


def test_a_wrong_library_is_told(problems: list[Problem], monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> list[Candidate]:
        return [Candidate("SciPy", lambda times: None, lambda: np.zeros(10), parallel=False)]

    monkeypatch.setattr(by_scipy, "MAKERS", {"SpMV": wrong})
    only = Libraries((by_scipy,), ())
    problem = next(p for p in problems if p.kernel == "SpMV")
    with pytest.raises(ArithmeticError, match=f"{problem.name}: the result of SciPy is wrong"):
        time_problem(only, problem, 2, 0, Meter(Path("nowhere")))


def test_libraries_are_right(problems: list[Problem]) -> None:
    """All that are installed, in one thread and in two."""
    found = find_libraries()
    for problem in problems:
        expected = problem.case.expected()
        for threads in (1, 2):
            with found.threads(threads):
                candidates = found.candidates(problem)
                assert candidates
                for candidate in candidates:
                    candidate.run(3)
                    assert same(candidate.result(), expected), (problem.name, candidate.library)


def rows_with_gaps(begins, ends, columns, values, shape):
    at = np.concatenate([np.arange(b, e) for b, e in zip(begins, ends, strict=False)])
    rows = np.repeat(np.arange(shape[0]), ends - begins[: len(ends)])
    return sp.coo_array((values[at], (rows, columns[at])), shape).tocsr()


def parts(A):
    return A.indptr, A.indices, A.data


def plain_result(problem: Problem):
    """Return the result by the loops that numba compiles, in Python."""
    first, *others = problem.arrays
    if problem.kernel in ("SpMV", "SpMM", "layer"):
        (X,) = others
        Y = np.zeros((first.shape[0], *X.shape[1:]), np.float32)
        (plain.spmv if X.ndim == 1 else plain.spmm)(*parts(first), X, Y)
        return Y
    if problem.kernel == "SDDMM":
        values = np.zeros(first.nnz, np.float32)
        plain.sddmm(*parts(first), *others, values)
        return sp.csr_array((values, first.indices, first.indptr), first.shape)
    if problem.kernel in ("SpGEMM", "add"):
        (B,) = others
        shape, size = (first.shape[0], B.shape[1]), first.shape[0] * B.shape[1]
        ends, columns = np.zeros(shape[0], int), np.zeros(size, int)
        values = np.zeros(size, np.float32)
        if problem.kernel == "add":
            begins = first.indptr + B.indptr
            plain.add(*parts(first), *parts(B), ends, columns, values)
        else:
            begins, pieces = shape[1] * np.arange(shape[0]), np.array([0, 3, 3, shape[0]])
            bounds = shape[1], pieces, begins, ends, columns, values
            plain.spgemm(*parts(first), *parts(B), *bounds)
        return rows_with_gaps(begins, ends, columns, values, shape)
    entries = first.entries
    if problem.kernel == "TTV":
        y = np.zeros(entries.shape[0], np.float32)
        plain.spmv(*parts(entries), others[0], y)
        return first.scattered(y, others[1])
    M = np.zeros((len(first.rows) - 1, others[0].shape[1]), np.float32)
    plain.mttkrp(first.rows, first.middle, *parts(entries), *others, M)
    return M


def test_plain_loops_are_right(problems: list[Problem]) -> None:
    for problem in problems:
        if problem.kernel != "layer":  # which is SpMM
            assert same(plain_result(problem), problem.case.expected()), problem.name


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "is_installed", lambda name: name in ("scipy", "mkl"))
    found = find_libraries()
    assert found.modules == (by_scipy,)
    assert found.missing == ("sparse_dot_mkl", "numba", "torch")
    assert found.note() == (
        "not compared, since not installed: sparse_dot_mkl, numba, torch "
        "(pip install 'loopnest[cpu,torch]')"
    )
    assert Libraries((by_scipy,), ()).note() == ""


def test_times() -> None:
    """A repeat runs the kernel several times, and the time is of one."""
    counts = []
    seconds, joules = time_best(counts.append, 2, 0.01, Meter(Path("nowhere")))
    assert seconds > 0 and joules == {}
    assert counts[:2] == [1, 1] and len(set(counts[2:])) == 1 and counts[2] > 100
    one, other = (timing("SciPy", 1, s) for s in (2.0, 1.0))
    more = timing("MKL", 2, 3.0)
    assert best_of([one, more], [other]) == [other, more]


def timing(library: str, threads: int, seconds: float, **joules: float) -> Timing:
    return Timing(library=library, threads=threads, seconds=seconds, joules=joules)


def measured(kernel: str, cycles: int | None, *cpu: Timing) -> Measured:
    """Return a row of a chip that read ten lines."""
    counters = dict.fromkeys(energy.EVENTS, 0) | {"lines_read": 10, "cycles": cycles or 0}
    if cycles is None:
        del counters["cycles"]
    chip = OnChip(right=True, order="ij", cycles=cycles, counters=[counters], simulated=1.0)
    return Measured(kernel=kernel, data="d", nonzeros=1, chip=chip, cpu=cpu)


def test_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: a chip of 1 nJ a cycle, and 2 nJ a bit of DRAM."""
    chip = {"dtype": "bf16", "preset": "single", "configuration": {}, "sources": []}
    chip["energies"] = {"all": {"cycles": 1000.0}}
    monkeypatch.setattr(energy, "load_figures", lambda: {"chips": [chip]})
    config = make_config("single", "bf16")
    terms = Terms(config=config, period_ns=2.0, dram=2000.0, watts=(3.0, 50.0))
    one, slow, two = timing("A", 1, 8e-6), timing("B", 1, 9e-6), timing("B", 2, 5e-6)
    row = Compared(measured("SpMV", 1000, one, slow, two), terms)
    assert row.seconds == pytest.approx(2e-6)
    assert (row.one, row.all) == (one, two)
    dram = 2e-9 * 10 * 256
    joules = 1e-6 + dram
    # two cores take longer together than one, the package less
    low, high = 3 * 8e-6, 50 * 5e-6
    assert row.joules == pytest.approx((low, high))
    delay = joules * 2e-6
    expected = (
        *(4, 2.5, low / joules, high / joules),
        *(min(low * 8e-6, 2 * 3 * 5e-6 * 5e-6) / delay, high * 5e-6 / delay),
        *(low / dram, high / dram),
    )
    assert tuple(row.ratios().values()) == pytest.approx(expected)
    other = Compared(measured("SpMV", 4000, one), terms)
    none = Compared(measured("TTV", None, one), terms)
    rows = [row, other, none]
    assert means(rows)["time_ratio"] == pytest.approx(2.0)
    by_kernel = kernel_means(rows)
    assert by_kernel["SpMV"] == means(rows)
    assert list(by_kernel) == ["SpMV", "TTV"] and set(by_kernel["TTV"].values()) == {None}
    measured_joules = Compared(measured("add", 1000, timing("A", 1, 8e-6, package=3e-5)), terms)
    assert measured_joules.joules == pytest.approx((low, 3e-5))


def test_saved_rows_are_read_again() -> None:
    row = measured("add", 7, timing("A", 1, 8e-6, core=1e-6))
    read = Measured.from_dict(json.loads(json.dumps(row.to_dict())))
    assert replace(read, cpu=tuple(read.cpu)) == row


def test_the_machine(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Z80 @ 4 MHz\n")
    assert machine.cpu_model(tmp_path / "cpuinfo") == "Z80 @ 4 MHz"
    assert machine.cpu_model(tmp_path / "none") and machine.threads() >= 1


def test_chips_run_as_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chip that is named, with its memory."""
    made = []

    def make(preset: str, **settings: object) -> Chip:
        made.append((preset, settings["memory"].latency, settings["slots"]))
        return Chip(preset, **settings)

    monkeypatch.setattr("loopnest.benchmarks.options.Chip", make)
    assert command.main(arguments(folder, "SpMV", "--latency", "4", "--set", "slots=128")) == 0
    assert made == [("single", 4, 128)]
