"""Several PEs: what differs from one, which every other test on `SEVERAL` must not see."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Chip, ChipError, Memory, RunReport, Tensor
from loopnest.kernel.verilog import cached_verilog
from loopnest_hw.export import TOP, lint_waivers
from loopnest_hw.registers import ErrorCode, pe_counter
from loopnest_sim.build import find_verilator, run_tool
from tests.rtl.chips import QUICK, SEVERAL, TWO_PORTS, Bits, Pair, on, simulator
from tests.rtl.test_errors import check_next, small_capacities

ROWS = 60
STATEMENTS = {
    "SpMV": "y[i] = A[i,j] * x[j]",
    "SpMM": "C[i,j] = A[i,k] * X[k,j]",
    "SpGEMM": "C[i,j] = A[i,k] * B[k,j]",
    "sum": "C[i,j] = A[i,j] + B[i,j]",
}


def matrix(rng: np.random.Generator, columns: int, density: float) -> sp.csr_array:
    array = rng.integers(1, 6, (ROWS, columns)) * (rng.random((ROWS, columns)) < density)
    return sp.csr_array(array)


def operands_of(statement: str) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    operands: dict[str, Any] = {"A": matrix(rng, ROWS, 0.2), "B": matrix(rng, ROWS, 0.2)}
    operands |= {"x": rng.integers(1, 6, ROWS), "X": rng.integers(1, 6, (ROWS, 24))}
    return {name: value for name, value in operands.items() if f"{name}[" in statement}


@on(SEVERAL, TWO_PORTS)
@pytest.mark.parametrize("name", STATEMENTS)
def test_they_share_the_rows(pair: Pair, name: str) -> None:
    """The bits of a chip with one PE, in clearly fewer cycles than one PE of the same kind."""
    statement, used = STATEMENTS[name], operands_of(STATEMENTS[name])
    got = pair.run(statement, **used)
    cycles = pair.report.cycles
    alone = Chip(pair.preset, dtype=pair.dtype, backend="model", memory=QUICK)
    assert Bits(got) == Bits(alone.compute(statement, **used))
    one = Chip(pair.preset, dtype=pair.dtype, memory=QUICK, progress=False)
    assert Bits(got) == Bits(one.compute(statement, **used))
    assert one.report is not None and one.report.cycles is not None
    assert cycles < 0.75 * one.report.cycles


@on("shrunk/int8/cache=1/memory_ports=2")
@pytest.mark.parametrize("name", STATEMENTS)
def test_one_pe_behind_a_cache(pair: Pair, name: str) -> None:
    pair.run(STATEMENTS[name], **operands_of(STATEMENTS[name]))


def check_counters(report: RunReport, pes: int) -> None:
    """Check the counters of each kernel of a run: the cache's, and each PE's."""
    for run in report._runs:
        counted = run.counters.values
        lookups = [counted[f"cache_{outcome}"] for outcome in ("hits", "misses", "joined")]
        assert counted["cache_misses"] == counted["lines_read"] > 0
        assert counted["cache_requests"] >= max(sum(lookups), counted["fetch_busy"])
        assert counted["cache_waits"] >= counted["cache_conflicts"]
        for state in ("busy", "starved", "stalled"):
            each = [counted[pe_counter(pe, f"leaf_{state}")] for pe in range(pes)]
            assert sum(each) == counted[f"leaf_{state}"]
        ends = [counted[pe_counter(pe, "last_step")] for pe in range(pes)]
        assert 0 < max(ends) < counted["cycles"]
    assert report.cache is not None and report.pes is not None
    assert report.cache["requests"] == report.cache["hits"] + report.cache["misses"]
    assert len(report.pes) == pes


@on(SEVERAL, TWO_PORTS)
@pytest.mark.parametrize("memory", [QUICK, Memory(latency=50, stall=0.2)], ids=["quick", "slow"])
def test_counters(pair: Pair, memory: Memory) -> None:
    """The sums over the PEs are those of the summed counters; the cache's reads are the memory's.
    Two kernels of a list have their own.
    """
    rng = np.random.default_rng(6)
    A, B = matrix(rng, ROWS, 0.2), matrix(rng, ROWS, 0.3)
    chip = pair.chip(memory)
    chip.compute("C[i,j] = A[i,k] * B[k,j]", A=A, B=B)
    alone = chip.report
    assert alone is not None
    check_counters(alone, 3)
    (counted,) = (run.counters.values for run in alone._runs)
    assert counted["cache_waits"] > 0
    (timeline,) = alone.timelines
    for name, counts in timeline.counts.items():
        if name.startswith(("pe", "cache")):
            assert int(counts.sum()) == counted[name]
    statements = ["C[i,j] = A[i,k] * B[k,j]", "E[i,j] = A[i,j] + B[i,j]"]
    program = loopnest.compile(statements, {"A": A, "B": B}, chip=chip)
    program()
    both = program.report
    assert both is not None and len(both._runs) == 2 and both.cache is not None
    check_counters(both, 3)
    first, second = (run.counters.values for run in both._runs)
    for name in ("lines_read", "leaf_busy", "cache_requests", "cache_misses"):
        assert first[name] > 0 and second[name] > 0
        assert abs(first[name] - counted[name]) <= 0.1 * counted[name]
    assert both.cache["requests"] == first["cache_requests"] + second["cache_requests"]


@on(SEVERAL)
def test_the_report_names_the_pe_with_the_heavy_row(pair: Pair) -> None:
    """It works alone at the end."""
    A = np.zeros((40, 1000), np.int64)
    A[:, ::333] = 1
    A[35] = 1
    chip = pair.chip(Memory(latency=4))
    chip.compute("y[i] = A[i,j] * x[j]", A=sp.csr_array(A), x=np.ones(1000, np.int64), order="ij")
    report = chip.report
    assert report is not None and report.bottleneck is not None and report.pes is not None
    check_counters(report, 3)
    last = max(range(3), key=lambda pe: report.pes[pe]["last_step"])
    assert report.pes[last]["leaf_busy"] > 5 * min(pe["leaf_busy"] for pe in report.pes)
    assert report.bottleneck.cause == "balance"
    assert f"uneven work: PE {last} works alone for the last " in str(report)
    # where all rows are alike, nothing of it is said
    chip.compute("y[i] = A[i,j]", A=np.ones((96, 40), np.int64), order="ij")
    assert chip.report is not None and "works alone" not in str(chip.report)


@on(SEVERAL)
def test_room_runs_out_when_all_are_done(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try knows the size of the whole result."""
    capacities = small_capacities(monkeypatch)
    rng = np.random.default_rng(4)
    A, B = matrix(rng, ROWS, 0.6), matrix(rng, ROWS, 0.6)
    got = pair.chip().compute("C[i,j] = A[i,j] + B[i,j]", A=A, B=B)
    assert np.array_equal(got.toarray(), (A + B).toarray())
    assert capacities == [1, (A + B).nnz]


@on(SEVERAL)
def test_an_error_names_its_pe(pair: Pair) -> None:
    """The last row overflows; it is in another block of rows, so another PE's, in each run."""
    most = np.iinfo(np.int32).max
    found = set()
    for rows in (8, 24, 40):
        array = np.ones((rows, 3), np.int64)
        array[-1] = most - 1
        A = Tensor.from_dense(array, dtype="int8", wide=True)
        with pytest.raises(ChipError) as caught:
            pair.chip().compute("y[i] = A[i,j]", A=A, order="ij")
        error = caught.value
        assert (error.code, error.where) == (ErrorCode.OVERFLOW, 0)
        assert (f"PE {error.pe}" in str(error)) == (error.pe > 0)
        found.add(error.pe)
        check_next(pair)
    assert found == {0, 1, 2}


@on(SEVERAL)
def test_a_failing_line_ends_the_run_of_all(pair: Pair) -> None:
    """A line of each operand, at the beginning and at the end."""
    rng = np.random.default_rng(5)
    A, x = matrix(rng, ROWS, 0.3), rng.integers(1, 6, ROWS)
    chip = pair.chip()
    chip.compute("y[i] = A[i,j] * x[j]", A=A, x=x)
    assert chip.report is not None
    kernels = [run.kernel for run in chip.report._runs]
    for address, array in kernels[0].segments[1:]:
        for at in (address, address + array.nbytes - 1):
            line = at - at % 32
            failing = pair.chip(Memory(latency=4, fill=0xA5, errors=(line, line + 32)))
            with pytest.raises(ChipError) as caught:
                failing.compute("y[i] = A[i,j] * x[j]", A=A, x=x)
            assert caught.value.code in (ErrorCode.READ_ERROR, ErrorCode.WRITE_ERROR)
            assert not simulator(failing).violations


@on(SEVERAL)
def test_the_verilog_is_clean(pair: Pair, tmp_path: Path) -> None:
    """Verilator has nothing to say beyond the waivers, and the PEs share one module."""
    text = cached_verilog(pair.model.config)
    assert len(re.findall(r"^module pe\b", text, re.M)) == 1
    (tmp_path / "loopnest.v").write_text(text)
    (tmp_path / "loopnest.vlt").write_text(lint_waivers())
    verilator = find_verilator()
    command = [str(verilator.program), "--lint-only", "-Wall", "--top-module", TOP]
    run_tool([*command, "loopnest.vlt", "loopnest.v"], tmp_path, verilator.environment)
