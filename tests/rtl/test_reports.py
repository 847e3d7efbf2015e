"""Reports of the RTL: the bottleneck of kernels made for one, timelines, plots, traces."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Memory, RunReport
from loopnest.commands.cli import OK, main
from loopnest_hw.registers import STAGES
from loopnest_sim.simulator import Simulator
from tests.rtl.chips import Pair, on, simulator

PRODUCT = "C[i,j] = A[i,k] * B[k,j]"


def sparse(rows: int, columns: int, density: float, seed: int = 1) -> sp.csr_array:
    generator = np.random.default_rng(seed)
    return sp.random_array((rows, columns), density=density, format="csr", rng=generator)


def run(pair: Pair, statement: str, memory: dict[str, Any], **arguments: Any) -> RunReport:
    chip = pair.chip(Memory(**{"latency": 4} | memory))
    chip.compute(statement, **arguments)
    assert chip.report is not None
    return chip.report


DENSE = np.ones((40, 40))
GEMV = "y[i] = A[i,j] * x[j]"


@on("single/bf16")
@pytest.mark.parametrize(
    ("cause", "text", "statement", "memory", "operands"),
    [
        ("leaf", "arithmetic: ", PRODUCT, {}, {"A": DENSE, "B": DENSE}),
        (
            *("leaf", "more multipliers would not help", "y[j] = A[i,j]", {}),
            {"A": sparse(2000, 1, 1.0), "order": "ij"},
        ),
        (
            *("fetch", "reading the operands: ", GEMV, {}),
            {"A": sparse(40, 2000, 0.2), "x": np.ones(2000), "order": "ij"},
        ),
        (
            *("write", "writing the result: the write stage is busy", "C[j,i] = A[i,j]", {}),
            {"A": sparse(200, 200, 0.2), "order": "ij"},
        ),
        (
            *("latency", "with a latency of 1,000", GEMV, {"latency": 1000}),
            {"A": sparse(20, 1000, 0.1), "x": np.ones(1000), "order": "ij"},
        ),
        (
            *("read rate", "reads, at 4 bytes a cycle,", GEMV, {"bytes_per_cycle": 4}),
            {"A": np.ones((30, 256)), "x": np.ones(256)},
        ),
        (
            *("write rate", "writes, at 2 bytes a cycle,", "C[i,j] = x[i] * y[j]"),
            *({"bytes_per_cycle": 2}, {"x": np.ones(40), "y": np.ones(40)}),
        ),
        ("start-up", "before the first step", PRODUCT, {"latency": 100}, {"A": DENSE[:4, :4]}),
        (
            *("join", "merging fibers: ", PRODUCT, {}),
            {"A": sparse(40, 90, 0.1), "B": sparse(40, 90, 0.1, 2).T.tocsr(), "order": "ijk"},
        ),
        (
            *("passes", "further passes: ", PRODUCT, {}),
            {"A": sparse(1, 4, 1.0), "B": sparse(4, 20_000, 0.2), "order": "ikj"},
        ),
    ],
)
def test_bottleneck(
    pair: Pair,
    cause: str,
    text: str,
    statement: str,
    memory: dict[str, Any],
    operands: dict[str, Any],
) -> None:
    if "B" in statement and "B" not in operands:
        operands = operands | {"B": operands["A"]}
    made = run(pair, statement, memory, **operands)
    found = made.bottleneck
    assert found is not None and found.cause == cause, found
    assert text in found.text
    assert 0.45 < found.share <= 1
    assert str(made).splitlines()[-1] == f"bottleneck: {found.text}"
    assert made.to_dict()["bottleneck"] == found.to_dict()


@on("single/bf16")
def test_bottleneck_of_several_kernels(pair: Pair) -> None:
    """It is that of the kernels that take the most cycles, and the line says which."""
    a = sparse(40, 40, 0.3)
    made = run(pair, "C[i,j] = A[i,k] * B[k,j] + D[i,j]", {}, A=DENSE, B=DENSE, D=a)
    found = made.bottleneck
    assert found is not None and found.cause == "leaf"
    assert found.text.endswith(("(in all 2 kernels)", " of all cycles)"))
    kernels = made.to_dict()["kernels"]
    assert made.cycles == sum(kernel["cycles"] for kernel in kernels)
    assert kernels[1]["begin"] >= kernels[0]["begin"] + kernels[0]["cycles"]


@on("single/bf16")
def test_samples_cost_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is not sampled has the same counters; one that is adds up to them."""
    a = sparse(60, 60, 0.1)
    sampled = run(pair, PRODUCT, {}, A=a, B=a)
    for timeline, kernel in zip(sampled.timelines, sampled._runs, strict=True):
        assert timeline.ends[-1] == sampled.cycles
        assert 200 <= len(timeline.ends) <= 401
        values = kernel.counters.values
        assert {name: int(n.sum()) for name, n in timeline.counts.items()} == values
        for stage in STAGES:
            busy = sum(timeline.counts[f"{stage}_{s}"] for s in ("busy", "starved", "stalled"))
            # the first and last windows have what is counted two cycles late
            assert (busy[1:-1] <= timeline.lengths[1:-1]).all()

    def step(self: Simulator, *_: Any) -> int:
        while not self.interrupt:
            self.step(1)
        return 0

    monkeypatch.setattr(Simulator, "run_until_interrupt", step)
    plain = run(pair, PRODUCT, {}, A=a, B=a)
    assert len(simulator(pair.chip(Memory(latency=4))).samples) == 0
    assert plain._runs[0].counters.values == sampled._runs[0].counters.values


def energy_bars(figure: Any) -> tuple[list[str], list[float]]:
    """Return the parts in the plot of the energy, and the lengths of their bars."""
    (axis,) = (a for a in figure.axes if a.get_title(loc="left").startswith("Energy"))
    names = [label.get_text() for label in axis.get_yticklabels()]
    return names, [bar.get_width() for bar in axis.patches]


@on("single/bf16")
def test_plot(pair: Pair, tmp_path: Path) -> None:
    """It has the stages, the memory, a roofline and the energy, and names cycles and bottleneck."""
    a = sparse(30, 30, 0.2)
    made = run(pair, "C[i,j] = A[i,k] * B[k,j] + A[i,j]", {}, A=a, B=DENSE[:30, :30])
    figure = made.plot(tmp_path / "run.png")
    content = (tmp_path / "run.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 20_000
    assert made.cycles is not None and made.bottleneck is not None
    text = " ".join(t.get_text() for t in figure.findobj(lambda o: hasattr(o, "get_text")))
    for part in (f"{made.cycles:,} cycles", made.bottleneck.text, *STAGES, "Roofline", "kernel 2"):
        assert part in text
    energy = made.energy
    assert energy is not None and f"Energy: {energy.text}" in text
    parts, bars = energy_bars(figure)
    assert parts[:2] == sorted(energy.parts, key=lambda part: -energy.parts[part])[:2]
    assert sum(bars) == pytest.approx(energy.total * 1e6)
    with pytest.raises(ValueError, match=r"run.doc': expected the suffix of one of .*png"):
        made.plot(tmp_path / "run.doc")


@on("single/bf16")
def test_command_line(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "A.npy", DENSE)
    plot, trace = tmp_path / "run.png", tmp_path / "run.json"
    words = [f"A={tmp_path / 'A.npy'}", "--plot", str(plot), "--trace", str(trace)]
    assert main(["compute", "y[i] = A[i,j]", *words]) == OK
    assert "\nbottleneck: " in capsys.readouterr().err
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert json.loads(trace.read_text())["traceEvents"]


@on("single/bf16")
def test_trace(pair: Pair, tmp_path: Path) -> None:
    """The rules of the Trace Event Format, which Perfetto reads, and the report's figures."""
    a = sparse(30, 30, 0.2)
    made = run(pair, "C[i,j] = A[i,k] * B[k,j] + A[i,j]", {}, A=a, B=DENSE[:30, :30])
    made.trace(tmp_path / "run.json")
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["displayTimeUnit"] in ("ms", "ns")
    events = content["traceEvents"]
    for event in events:
        assert type(event["name"]) is str and event["name"]
        assert event["ph"] in ("M", "X", "C")
        assert type(event["pid"]) is int and type(event["tid"]) is int
        assert type(event["ts"]) in (int, float) and event["ts"] >= 0
        assert type(event["args"]) is dict
        if event["ph"] == "X":
            assert event["dur"] > 0
        if event["ph"] == "C":
            assert event["args"]
            assert all(type(n) is float and n >= 0 for n in event["args"].values())
    assert [e["name"] for e in events if e["ph"] == "M"] == ["process_name", "thread_name"]

    whole, *kernels = [e for e in events if e["ph"] == "X"]
    assert whole["name"] == made.statement
    assert [e["args"]["cycles"] for e in kernels] == [int(t.ends[-1]) for t in made.timelines]
    end = whole["ts"]
    for kernel in kernels:  # slices of a thread lie in one another or apart
        assert end <= kernel["ts"]
        end = kernel["ts"] + kernel["dur"]
        assert end <= whole["ts"] + whole["dur"] + 1e-9

    # a counter holds its value until the next one: together they are what was counted
    for name, way, total in (
        ("memory, bytes a cycle", "read", made.bytes_read),
        ("memory, bytes a cycle", "written", made.bytes_written),
        ("multiplies a cycle", "multiplies", made.multiplies),
        ("leaf stage, %", "busy", 100 * made.stalls["leaf"]["busy"]),
    ):
        series = [(e["ts"], e["args"][way]) for e in events if e["ph"] == "C" and e["name"] == name]
        times = [time for time, _ in series]
        assert times == sorted(times) and series[-1][1] == 0
        area = sum(1000 * (b - t) * n for (t, n), b in zip(series, times[1:], strict=False))
        assert area == pytest.approx(total, rel=1e-3)
