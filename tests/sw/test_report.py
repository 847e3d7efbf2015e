"""Reports: their figures, the expected bottleneck, timelines."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest.nest.result
from loopnest import Chip, Memory, RunReport
from loopnest.kernel.backends import Counters, parted
from loopnest.report.bottleneck import find_bottleneck
from loopnest.report.plot import windows
from loopnest.report.report import combine, make_report
from loopnest.report.timeline import NAMES, Timeline, make_timeline
from loopnest_hw.registers import counters as all_counters
from loopnest_hw.registers import pe_counter

PRODUCT = "C[i,j] = A[i,k] * B[k,j]"


def sparse(rows: int, columns: int, density: float, seed: int = 1) -> sp.csr_array:
    generator = np.random.default_rng(seed)
    return sp.random_array((rows, columns), density=density, format="csr", rng=generator)


def report(statement: str, *, memory: Memory | None = None, **arguments: Any) -> RunReport:
    chip = Chip(backend="model", memory=memory)
    chip.compute(statement, **arguments)
    assert chip.report is not None
    return chip.report


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def test_to_dict_of_the_model() -> None:
    """JSON takes it; what is expected is never under the name of what is measured."""
    a = sparse(30, 30, 0.2)
    found = report("C[i,j] = A[i,k] * B[k,l] * A[l,j] + B[i,j]", A=a, B=a).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {type(leaf) for leaf in leaves(found)} <= {str, int, float, type(None)}
    assert found["cycles"] is None and found["roof_share"] is None and found["bottleneck"] is None
    assert found["stalls"] == {} and found["cache"] is None and found["pes"] is None
    assert found["expected_cycles"] > found["pe_roof"] > 0
    assert found["expected_bottleneck"]["cause"] in ("leaf", "fetch", "latency")
    assert len(found["kernels"]) > 1
    assert all(kernel["cycles"] is None for kernel in found["kernels"])
    total = sum(kernel["expected_cycles"] for kernel in found["kernels"])
    assert abs(total - found["expected_cycles"]) <= len(found["kernels"])


def test_print_of_the_model() -> None:
    """The expected cycles are called so, and the last line is the expected bottleneck."""
    made = report(PRODUCT, A=np.ones((32, 32)), B=np.ones((32, 32)))
    lines = str(made).splitlines()
    assert f"{made.expected_cycles:,}" in next(line for line in lines if "cycles, expected" in line)
    assert not any(line.startswith("│ cycles  ") for line in lines)
    assert lines[-1].startswith("expected bottleneck: arithmetic: the leaf stage is busy ")
    assert lines[-1].endswith(" % of the cycles, with 4.0 of 4 multipliers used in a step")


def test_a_report_runs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roofs come from what the run has counted, on the model and on the chip."""
    a = sparse(30, 30, 0.2)
    made = report(PRODUCT, A=a, B=a, order="ikj")
    (work,) = made.work
    model = made._runs[0].counters
    counted = {
        **{"cycles": 1000, "multiplies": work.useful_lanes, "leaf_steps": work.steps, "passes": 0},
        **{"lines_read": work.lines_read, "lines_written": work.lines_written},
        "result_values": int(((a != 0).astype(int) @ (a != 0).astype(int)).nnz),
    }
    blocks = work.bytes_written - 30 * 12 - 4 * counted["result_values"]
    chips = Counters(counted | {"result_blocks": blocks // 4})
    as_of_chip = replace(made, cycles=1000, _runs=(replace(made._runs[0], counters=chips),))
    assert model.work == work == as_of_chip.golden_work()[0]

    def no_model(*_: Any) -> None:
        raise AssertionError("the golden model runs")

    monkeypatch.setattr("loopnest_sim.model.kernel.run_checked", no_model)
    monkeypatch.setattr("loopnest_sim.roof.run_watched", no_model)
    # which lines a stream takes is not counted
    assert as_of_chip.work == (replace(work, lines_taken=0),)
    assert (as_of_chip.roof, as_of_chip.pe_roof) == (made.roof, made.pe_roof)
    assert f"{made.pe_roof:,}" in str(made)


@pytest.mark.parametrize(
    ("cause", "text", "statement", "memory", "operands"),
    [
        ("leaf", "arithmetic", PRODUCT, {}, {"A": np.ones((48, 48)), "B": np.ones((48, 48))}),
        (
            *("leaf", "more multipliers would not help", "y[j] = A[i,j]", {}),
            {"A": sparse(3000, 1, 1.0), "order": "ij"},
        ),
        (
            *("fetch", "reading", "y[i] = A[i,j] * x[j]", {}),
            {"A": sparse(100, 2000, 0.2), "order": "ij"},
        ),
        ("write", "writing", "C[j,i] = A[i,j]", {}, {"A": sparse(200, 200, 0.2), "order": "ij"}),
        (
            *("latency", "a latency of 5,000", "y[i] = A[i,j] * x[j]", {"latency": 5000}),
            {"A": sparse(100, 1000, 0.2)},
        ),
        (
            *("read rate", "at 4 bytes a cycle", "y[i] = A[i,j] * x[j]", {"bytes_per_cycle": 4}),
            {"A": np.ones((60, 256))},
        ),
        ("start-up", "before the first step", PRODUCT, {}, {"A": np.eye(4), "B": np.eye(4)}),
        (
            *("join", "merging fibers", PRODUCT, {}),
            {"A": sparse(90, 90, 0.1), "B": sparse(90, 90, 0.1).T.tocsr(), "order": "ijk"},
        ),
    ],
)
def test_expected_bottleneck(
    cause: str, text: str, statement: str, memory: dict[str, Any], operands: dict[str, Any]
) -> None:
    if "x[j]" in statement:
        operands = operands | {"x": np.ones(operands["A"].shape[1])}
    made = report(statement, memory=Memory(**{"latency": 4} | memory), **operands)
    found = made.expected_bottleneck
    assert found.cause == cause, found
    assert text in found.text
    assert 0.5 < found.share <= 1


def test_expected_bottleneck_of_scattered_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of one lane, since two indices of the result in one fiber are too many to pad."""
    monkeypatch.setattr(loopnest.nest.result, "KEYS", 100 * 10 + 1)
    memory = Memory(latency=4)
    made = report(PRODUCT, memory=memory, order="kij", A=sparse(100, 8, 0.5), B=sparse(8, 10, 0.6))
    found = made.expected_bottleneck
    assert found.cause == "leaf"
    assert found.text.endswith(
        "and its steps have one lane each, since the results are scattered; more multipliers would "
        "not help"
    )


def test_model_has_no_course() -> None:
    made = report(PRODUCT, A=np.eye(4), B=np.eye(4))
    assert made.bottleneck is None and made.timelines == ()
    for draw in (made.plot, made.trace):
        with pytest.raises(
            ValueError, match="no cycles were counted: expected a run with backend="
        ):
            draw("never.png")


def counters(rows: list[tuple[int, int]], cycles: int, steps: int) -> Counters:
    """Return counters that were sampled as ``(cycles, leaf_steps)``, and end at these."""
    samples = np.zeros((len(rows), len(NAMES)), np.uint32)
    for n, (cycle, step) in enumerate(rows):
        samples[n, NAMES.index("cycles")] = cycle
        samples[n, NAMES.index("leaf_steps")] = step
    values = dict.fromkeys(NAMES, 0) | {"cycles": cycles, "leaf_steps": steps}
    return Counters(values, 0, samples)


def timeline(rows: list[tuple[int, int]], cycles: int, steps: int) -> Timeline:
    found = make_timeline(counters(rows, cycles, steps))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "before", [[], [(900, 7)], [(900, 7), (901, 9)], [(0, 0)], [(7, 5), (0, 0), (0, 0)]]
)
def test_timeline(before: list[tuple[int, int]]) -> None:
    """It begins with the run, whatever the counters held, and adds up to them."""
    found = timeline([*before, (4, 0), (8, 3), (12, 7), (13, 7)], 13, 9)
    assert found.ends.tolist() == [4, 8, 12, 13]
    assert found.starts.tolist() == [0, 4, 8, 12]
    assert found.counts["leaf_steps"].tolist() == [0, 3, 4, 2]


def test_timeline_of_counters_that_wrap() -> None:
    high = (1 << 32) - 2
    found = timeline([(1, high), (2, 3)], 3, 5)
    assert found.counts["leaf_steps"].tolist() == [high, 5, 2]


def test_windows() -> None:
    """They are of one length over all kernels, and nothing is lost between them."""
    first = timeline([(400, 100), (800, 500)], 1000, 600)
    second = timeline([], 600, 60)
    found = windows([first, second], 8)
    assert found.kernels.tolist() == [0, 1000, 1600]
    assert found.edges.tolist() == [0, 200, 400, 600, 800, 1000, 1200, 1400, 1600]
    assert found.counts["leaf_steps"].tolist() == pytest.approx([50, 50, 200, 200, 100, 20, 20, 20])
    assert len(windows([timeline([], 5, 5)]).edges) == 6


@pytest.mark.parametrize(
    ("statement", "counted", "cause", "text"),
    [
        (
            "y[i] = A[i,j] * x[j]",
            {"lines_written": 940, "leaf_busy": 1200, "leaf_starved": 2000},
            "write rate",
            "memory bandwidth: writes, at 32 bytes a cycle, take 94 % of the cycles",
        ),
        (
            "y[j] = A[i,j]",
            {"leaf_busy": 960, "leaf_steps": 960, "multiplies": 3840},
            "leaf",
            "4.0 of 4 multipliers used in a step; one of 4 PEs runs the nest, whose rows cannot be "
            "shared",
        ),
    ],
)
def test_bottleneck_of_several_pes(
    statement: str, counted: dict[str, int], cause: str, text: str
) -> None:
    """The stages' cycles are the average of the PEs that run the nest."""
    chip = Chip("single", pes=4, backend="model")
    operands = {"A": np.ones((40, 40)), "x": np.ones(40)}
    used = {name: operands[name] for name in operands if f"{name}[" in statement}
    chip.compute(statement, order="ij", **used)
    assert chip.report is not None
    (run,) = chip.report._runs
    values = dict.fromkeys(NAMES, 0) | {"cycles": 1000} | counted
    found = find_bottleneck([replace(run, counters=Counters(values))])
    assert found is not None and found.cause == cause
    assert found.text.endswith(text)


PES = 4
CACHE = {"cache_requests": 900, "cache_hits": 500, "cache_misses": 200, "cache_joined": 100}


def several(counted: dict[str, int], ends: list[int], busy: list[int]) -> RunReport:
    """Return the report of a run of `PES` PEs with these counters and leaves."""
    chip = Chip("single", pes=PES, backend="model")
    chip.compute("y[i] = A[i,j] * x[j]", A=np.ones((40, 40)), x=np.ones(40), order="ij")
    assert chip.report is not None
    (run,) = chip.report._runs
    values = dict.fromkeys((name for name, _ in all_counters(PES)), 0) | CACHE | {"cycles": 1000}
    for pe in range(PES):
        values[pe_counter(pe, "leaf_busy")] = busy[pe]
        values[pe_counter(pe, "last_step")] = ends[pe]
    values |= {"leaf_busy": sum(busy), "leaf_steps": sum(busy), "multiplies": 2 * sum(busy)}
    return make_report(run.config, run.memory, run.kernel, Counters(values | counted))


@pytest.mark.parametrize(
    ("counted", "ends", "busy", "cause", "text"),
    [
        (
            *({}, [380, 400, 390, 950], [100, 100, 100, 400], "balance"),
            "uneven work: PE 3 works alone for the last 55 % of the cycles: its leaf is busy 2.3 "
            "times as long as the average",
        ),
        (
            *({}, [90, 970, 960, 40], [100, 140, 150, 50], "balance"),
            "uneven work: the PEs wait for the last one, PE 1, in 45.5 % of the cycles on average",
        ),
        (
            *({}, [800, 980, 800, 800], [700, 780, 700, 700], "leaf"),
            "used in a step; more multipliers would not help; PE 1 works alone for the last 18 % "
            "of the cycles: its leaf is busy 1.1 times as long as the average",
        ),
        # what is lost on average is too little to tell
        (
            *({}, [900, 980, 900, 900], [700, 780, 700, 700], "leaf"),
            "used in a step; more multipliers would not help",
        ),
        (
            {"fetch_stalled": 2000, "cache_waits": 3000, "cache_conflicts": 2700},
            *([980] * 4, [200] * 4, "banks"),
            "the cache's banks: conflicts keep the PEs' requests back in 45 % of the cycles",
        ),
        # banks that wait for memory are no conflicts
        (
            {"fetch_stalled": 2000, "cache_waits": 3000, "cache_conflicts": 300},
            *([980] * 4, [200] * 4, "latency"),
            "the leaf waits for blocks or values in 75 % of the cycles, with a latency of 100",
        ),
    ],
)
def test_bottleneck_of_pes_and_cache(
    counted: dict[str, int], ends: list[int], busy: list[int], cause: str, text: str
) -> None:
    """PEs that have no work left, and conflicts at the banks, are no memory latency."""
    found = several(counted, ends, busy).bottleneck
    assert found is not None and found.cause == cause, found
    assert found.text.endswith(text)


def test_figures_of_pes_and_cache() -> None:
    made = several({"cache_waits": 12, "cache_conflicts": 5}, [380, 400, 390, 950], [9, 3, 5, 5])
    found = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert found["cache"] == {
        **{"requests": 900, "hits": 700, "misses": 200, "joined": 100, "merged": 100},
        **{"waits": 12, "conflicts": 5},
    }
    assert [pe["last_step"] for pe in found["pes"]] == [380, 400, 390, 950]
    shown = str(made)
    assert "900 requests, 700 hits, 200 misses" in shown
    assert "12 waits, 5 for conflicts" in shown
    assert "3 (PE 1) to 9 (PE 0)" in shown and "380 (PE 0) to 950 (PE 3)" in shown
    both = combine("two kernels", [made, made]).to_dict()
    assert both["cache"] == {name: 2 * count for name, count in found["cache"].items()}
    assert [pe["leaf_busy"] for pe in both["pes"]] == [18, 6, 10, 10]


def test_counters_of_a_list_in_parts() -> None:
    """Each kernel's are what it has counted, and times are counted from its start."""
    first = {"cycles": 100, "lines_read": 7, "pe0_last_step": 90, "pe1_last_step": 0}
    second = {"cycles": 150, "lines_read": 9, "pe0_last_step": 90, "pe1_last_step": 130}
    found = parted([first, second], 5, np.zeros((0, 4), np.uint32))
    assert found[0].values == first and found[0].begin == 5
    assert found[1].begin == 105
    assert found[1].values == {
        **{"cycles": 50, "lines_read": 2, "pe0_last_step": 0, "pe1_last_step": 30}
    }
