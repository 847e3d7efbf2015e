"""The bottleneck of a kernel in words, from its counters, or from the estimate before it runs.

A cause is either a stage or the memory that is busy, or something that the leaf waits for. Each has
a number of cycles, and the one with the most is the bottleneck: a stage that is busy in nearly all
cycles, or the wait that takes most of them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import LeafMode
from loopnest_hw.registers import STAGES
from loopnest_sim.memory import Memory

from ..cost.estimate import START, start_cycles
from ..kernel.backends import Counters
from ..kernel.lower import Kernel
from .pes import balance, cache_counts
from .timeline import make_timeline, per_pe

FULL = 0.75
"""Minimum average share of the multipliers used per step for which more multipliers would help."""

HALF = 0.5
"""Share up to which more would not help. Also the share of further passes among all passes from
which they limit a kernel.
"""

UNEVEN = 0.1
"""Share of the cycles, lost on average by PEs that have no work left, from which it is told, even
if something else is the bottleneck.
"""

EXPECTED = {
    **{stage: stage for stage in ("fetch", "leaf", "drain", "write")},
    "values": "fetch",
    **dict.fromkeys(("rings", "open", "ahead"), "latency"),
}
"""The causes by the estimate's stages (`cost.estimate`), without those of the rows."""


@dataclass(frozen=True)
class Bottleneck:
    """What limits a run.

    Attributes
    ----------
    cause : str
        A stage (``"leaf"``, ``"write"``, ...) or one of ``"join"``, ``"read rate"``,
        ``"write rate"``, ``"adder"``, ``"slots"``, ``"passes"``, ``"latency"``, ``"start-up"``,
        ``"banks"``, ``"balance"``.
    share : float
        Part of the cycles, 0 to 1.
    text : str
        Cause and share in a sentence.
    """

    cause: str
    share: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for ``json``."""
        return {"cause": self.cause, "share": self.share, "text": self.text}


@dataclass(frozen=True)
class Run:
    """A kernel that was run, and its counters."""

    config: ChipConfig
    memory: Memory
    kernel: Kernel
    counters: Counters

    @property
    def pes(self) -> int:
        """PEs that run the nest."""
        return self.config.pes if self.kernel.fields.get("share.rows") else 1

    @property
    def rate(self) -> float:
        """Bytes that the memory ports read, and write, in a cycle at most."""
        return self.memory.rate(self.config.memory_ports)


@dataclass(frozen=True)
class _Figures:
    """The cycles of each cause of a kernel, measured or expected.

    ``causes``: their cycles. ``steps``, ``lanes``: the leaf's steps with lanes, and their lanes.
    ``empty``: its steps without.
    """

    run: Run
    cycles: float
    causes: Mapping[str, float]
    steps: float
    lanes: float
    empty: float = 0.0

    @property
    def cause(self) -> str:
        """The bottleneck; of equal ones, the first."""
        return max(self.causes, key=lambda cause: self.causes[cause])


def find_bottleneck(runs: Sequence[Run]) -> Bottleneck | None:
    """Return the bottleneck of these kernels, which ran one after the other; None if no cycles were
    counted.
    """
    measured = [_measured(run) for run in runs if run.counters.values.get("cycles")]
    return _summary(measured) if measured else None


def expected_bottleneck(runs: Sequence[Run]) -> Bottleneck:
    """Return the bottleneck that the estimates expect."""
    return _summary([_expected(run) for run in runs])


def _summary(kernels: Sequence[_Figures]) -> Bottleneck:
    """Return the cause that limits the kernels with the most cycles, and its share of theirs."""
    grouped: dict[str, list[_Figures]] = defaultdict(list)
    for figures in kernels:
        grouped[figures.cause].append(figures)
    cause, group = max(grouped.items(), key=lambda item: sum(f.cycles for f in item[1]))
    cycles = sum(figures.cycles for figures in group)
    share = float(sum(figures.causes[cause] for figures in group) / cycles)
    text = TEXTS[cause](group, _percent(share))
    if cause != "balance" and _lost(group) >= UNEVEN * cycles:
        text += f"; {_ends(group)}"
    alone = [figures.run for figures in group if figures.run.pes < figures.run.config.pes]
    if alone:
        text += f"; one of {alone[0].config.pes} PEs runs the nest, whose rows cannot be shared"
    if len(group) == len(kernels) > 1:
        text += f" (in all {len(kernels)} kernels)"
    elif len(kernels) > 1:
        part = _percent(cycles / sum(figures.cycles for figures in kernels))
        which = f"kernel {kernels.index(group[0]) + 1}" if len(group) == 1 else f"{len(group)}"
        text += f" (in {which} of {len(kernels)} kernels, {part} of all cycles)"
    return Bottleneck(cause, share, text)


def _measured(run: Run) -> _Figures:
    """Return the figures of a run, from its counters and their course over time."""
    counted = per_pe(run.counters.values, run.pes)
    cycles = counted["cycles"]
    causes = {stage: float(counted[f"{stage}_busy"]) for stage in STAGES if stage != "accumulate"}
    # stages that all steps pass have the same busy cycles: it is the leaf unless another one is
    # busier
    causes = {"leaf": causes.pop("leaf"), **causes}
    causes |= _rates(run, counted["lines_read"], counted["lines_written"])
    causes |= {"adder": float(counted["accumulate_stalled"])}
    causes |= _waits(run)
    causes |= _waits_of_pes(run, causes["latency"])
    # no counter shows the cycles of a row's joins without output to the next row
    joins = min(_joins(run.kernel), cycles)
    if joins > causes["latency"] >= max(causes.values()):
        causes["join"] = joins
    again = counted["passes"] / (counted["passes"] + run.kernel.plan.result.fibers)
    slowest = max(causes, key=lambda cause: causes[cause])
    if again >= HALF and slowest not in ("drain", "write", "write rate"):
        causes = {"passes": again * causes[slowest]}
    steps = counted["leaf_steps"]
    return _Figures(
        run,
        cycles,
        {cause: min(n, cycles) for cause, n in causes.items()},
        steps=steps,
        lanes=counted["multiplies"],
        empty=run.counters.values["leaf_busy"] - steps,
    )


def _waits(run: Run) -> dict[str, float]:
    """Return the cycles in which the leaf waits, by cause, and those before its first step and
    after the last line of the result.
    """
    timeline = make_timeline(run.counters, run.pes)
    if timeline is None:
        counts = {name: np.array([n]) for name, n in per_pe(run.counters.values, run.pes).items()}
    else:
        counts = dict(timeline.counts)
    length = counts["cycles"]
    done = sum(counts[f"{stage}_busy"] for stage in ("drain", "write"))
    first, last = _span(counts["leaf_busy"])
    end = max(last, _span(done)[1])
    at = slice(first, last)
    no_step = length - sum(counts[f"leaf_{state}"] for state in ("busy", "starved", "stalled"))
    # with a block but no step, it waits for slots, unless the result path is the bottleneck
    held = np.minimum(no_step, counts["scan_stalled"])
    held = np.minimum(held, length - np.maximum(counts["drain_busy"], counts["write_busy"]))
    return {
        "slots": float(held[at].sum()),
        "latency": float((no_step - held + counts["leaf_starved"])[at].sum()),
        "start-up": float(length[:first].sum() + length[end:].sum()),
    }


def _waits_of_pes(run: Run, latency: float) -> dict[str, float]:
    """Return the parts of the leaf's waits that are not the memory's: PEs that have no work left,
    and requests that conflicts keep from the cache.
    """
    causes = {}
    ends = balance(run.counters.values, run.pes)
    if ends is not None:
        causes["balance"] = ends.lost
        latency = max(0.0, latency - ends.lost)
    cache = cache_counts(run.counters.values)
    if cache is not None and cache["waits"]:
        stalled = run.counters.values["fetch_stalled"] / run.pes
        causes["banks"] = min(latency, stalled * cache["conflicts"] / cache["waits"])
        latency -= causes["banks"]
    return causes | {"latency": latency}


def _span(counts: Any) -> tuple[int, int]:
    """Return the first window with a count, and the one after the last."""
    (found,) = np.nonzero(counts)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (len(counts), len(counts))


def _expected(run: Run) -> _Figures:
    """Return the figures of the estimate."""
    plan = run.kernel.plan
    expected = plan.expected
    causes: dict[str, float] = {"leaf": 0.0}
    start = start_cycles(expected, run.memory.latency)
    share = plan.cycles / (expected.cycles + start)  # of one PE, where several share the work
    for name, cycles in expected.stages.items():
        cause = EXPECTED.get(name.split()[0], "join")
        causes[cause] = max(causes.get(cause, 0.0), share * cycles)
    causes |= _rates(run, expected.lines, 0.0)
    causes["start-up"] = START + start
    return _Figures(
        run,
        plan.cycles,
        {cause: min(n, plan.cycles) for cause, n in causes.items()},
        steps=expected.stages.get("leaf", 0.0),
        lanes=expected.multiplies,
    )


def _rates(run: Run, read: float, written: float) -> dict[str, float]:
    """Return the cycles that the memory takes for lines, if it is slower than its port or several
    PEs share the ports.
    """
    if run.rate == run.config.memory_bytes and run.pes == 1:
        return {}
    cycles = LINE_BYTES / run.rate
    return {"read rate": read * cycles, "write rate": written * cycles}


def _joins(kernel: Kernel) -> float:
    """Return the cycles that the slowest row is expected to take to join its fibers."""
    stages = kernel.plan.expected.stages
    return max((n for name, n in stages.items() if name.split()[0] not in EXPECTED), default=0.0)


def _leaf(group: Sequence[_Figures], share: str) -> str:
    multipliers = group[0].run.config.multipliers
    steps = sum(figures.steps for figures in group)
    lanes = sum(figures.lanes for figures in group) / steps if steps else 0.0
    busy = f"the leaf stage is busy {share} of the cycles"
    if sum(figures.empty for figures in group) > steps:
        return f"empty fibers: {busy}, mostly with steps without lanes"
    used = f"{busy}, with {lanes:.1f} of {multipliers} multipliers used in a step"
    if lanes >= FULL * multipliers:
        return f"arithmetic: {used}"
    if all(f.run.kernel.plan.result.leaf_mode is LeafMode.SCATTER for f in group):
        used = f"{busy}, and its steps have one lane each, since the results are scattered"
    elif lanes > HALF * multipliers:
        return f"short steps: {used}"
    return f"short steps: {used}; more multipliers would not help"


def _stage(what: str, stage: str) -> Callable[[Sequence[_Figures], str], str]:
    return lambda _, share: f"{what}: the {stage} stage is busy {share} of the cycles"


def _rate(what: str) -> Callable[[Sequence[_Figures], str], str]:
    def text(group: Sequence[_Figures], share: str) -> str:
        rate = group[0].run.rate
        return f"memory bandwidth: {what}, at {rate:g} bytes a cycle, take {share} of the cycles"

    return text


def _latency(group: Sequence[_Figures], share: str) -> str:
    latency = group[0].run.memory.latency
    return (
        f"memory latency: the leaf waits for blocks or values in {share} of the cycles, with a "
        f"latency of {latency:,}"
    )


def _start(group: Sequence[_Figures], share: str) -> str:
    latency = group[0].run.memory.latency
    return (
        f"start-up: {share} of the cycles are before the first step or after the last write, with "
        f"a memory latency of {latency:,}"
    )


def _lost(group: Sequence[_Figures]) -> float:
    """Return the cycles that PEs have no work left, on average."""
    found = [balance(figures.run.counters.values, figures.run.pes) for figures in group]
    return sum(ends.lost for ends in found if ends is not None)


def _ends(group: Sequence[_Figures]) -> str:
    """Return how the PEs' work ends, of kernels in which it does not end together."""
    cycles = sum(figures.cycles for figures in group)
    ends = balance(group[0].run.counters.values, group[0].run.pes)
    if len(group) > 1 or ends is None or not ends.is_one:
        last = "" if len(group) > 1 or ends is None else f", PE {ends.last}"
        share = _percent(_lost(group) / cycles)
        return f"the PEs wait for the last one{last}, in {share} of the cycles on average"
    return (
        f"PE {ends.last} works alone for the last {_percent(ends.alone / cycles)} of the cycles: "
        f"its leaf is busy {ends.work:.1f} times as long as the average"
    )


TEXTS: Mapping[str, Callable[[Sequence[_Figures], str], str]] = {
    "scan": _stage("merging the innermost loop's blocks", "scan"),
    "fetch": _stage("reading the operands", "fetch"),
    "leaf": _leaf,
    "drain": _stage("draining the accumulator", "drain"),
    "write": _stage("writing the result", "write"),
    "join": lambda _, share: f"merging fibers: the joins take about {share} of the cycles",
    "read rate": _rate("reads"),
    "write rate": _rate("writes"),
    "adder": lambda _, share: (
        f"additions to the same lane: steps wait for the adder in {share} of the cycles"
    ),
    "slots": lambda _, share: (
        f"accumulator slots: blocks wait for a slot or a context in {share} of the cycles"
    ),
    "passes": lambda _, share: (
        f"further passes: the accumulator has too few slots, and to walk the operands again takes "
        f"about {share} of the cycles"
    ),
    "latency": _latency,
    "start-up": _start,
    "banks": lambda _, share: (
        f"the cache's banks: conflicts keep the PEs' requests back in {share} of the cycles"
    ),
    "balance": lambda group, _: f"uneven work: {_ends(group)}",
}
"""A sentence for each cause, given the kernels that it limits and its share of their cycles."""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"
