"""A run as a trace: the Trace Event Format of Chrome, which Perfetto reads.

Times in a trace are microseconds, with fractions. As in the waves, one cycle is one nanosecond,
counted from the chip's reset.
"""

from collections.abc import Sequence
from typing import Any

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.registers import STAGES

from .bottleneck import Run, find_bottleneck
from .timeline import Timeline, make_timeline

PROCESS, THREAD = 1, 1

STATES = ("busy", "starved", "stalled")


def events(statement: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the events of kernels that ran one after the other, in the order of their times.

    Raises
    ------
    ValueError
        If a kernel has no timeline.
    """
    found: list[dict[str, Any]] = []
    begins, ends = [], []
    for number, run in enumerate(runs):
        timeline = make_timeline(run.counters, run.pes)
        if timeline is None or run.counters.begin is None:
            raise ValueError("no cycles were counted: expected a run with backend='rtl'")
        begin, cycles = run.counters.begin, int(timeline.ends[-1])
        begins.append(begin)
        ends.append(begin + cycles)
        limit = find_bottleneck([run])
        arguments = {
            "order": "".join(run.kernel.plan.loops),
            "cycles": cycles,
            "multiplies": run.counters.values["multiplies"],
            "bottleneck": "" if limit is None else limit.text,
        }
        name = f"kernel {number + 1}: {run.kernel.plan.statement}"
        found.append(_slice(name, begin, cycles, arguments))
        found += _counters(timeline, begin)
    whole = _slice(statement, begins[0], ends[-1] - begins[0], {"kernels": len(runs)})
    names = [_name("process_name", "Loopnest"), _name("thread_name", "kernels")]
    return [*names, whole, *sorted(found, key=lambda event: float(event["ts"]))]


def _slice(name: str, begin: int, cycles: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return _event("X", name, begin, arguments) | {"dur": cycles / 1000, "cat": "kernel"}


def _name(what: str, name: str) -> dict[str, Any]:
    """Return the metadata that names the process or the thread."""
    return _event("M", what, 0, {"name": name})


def _event(phase: str, name: str, cycle: int, arguments: dict[str, Any]) -> dict[str, Any]:
    at = {"pid": PROCESS, "tid": THREAD, "ts": cycle / 1000}
    return {"ph": phase, "name": name, **at, "args": arguments}


def _counters(timeline: Timeline, begin: int) -> list[dict[str, Any]]:
    """Return the counts of each window, at its start, and a 0 at the end."""
    counts, lengths = timeline.counts, timeline.lengths
    series = {
        f"{stage} stage, %": {s: 100 * counts[f"{stage}_{s}"] / lengths for s in STATES}
        for stage in STAGES
    }
    series["multiplies a cycle"] = {"multiplies": counts["multiplies"] / lengths}
    lines = {"read": "lines_read", "written": "lines_written"}
    series["memory, bytes a cycle"] = {
        way: LINE_BYTES * counts[name] / lengths for way, name in lines.items()
    }
    found = []
    starts = [*timeline.starts.tolist(), int(timeline.ends[-1])]
    for name, values in series.items():
        for n, start in enumerate(starts):
            last = n == len(starts) - 1
            at = {k: 0.0 if last else round(float(v[n]), 3) for k, v in values.items()}
            found.append(_event("C", name, begin + start, at))
    return found
