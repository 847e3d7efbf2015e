"""The time of a candidate: the best of several repeats, with warm caches."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import Any

from ..outcome import same
from .candidate import Candidate
from .libraries import Libraries
from .power import Joules, Meter
from .problems import Problem

BATCH_SECONDS = 0.004
"""A repeat runs a kernel as often as fits; short, since what disturbs it comes at any time."""

REPEATS = 5
"""Repeats at least."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The time of a library.

    Attributes
    ----------
    library : str
    threads : int
    seconds : float
        Of one run: the best repeat.
    joules : mapping of str to float
        Of one run by domain: the mean over all repeats. Empty where nothing is measured.
    """

    library: str
    threads: int
    seconds: float
    joules: Joules

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for ``json``."""
        return asdict(self)


def time_best(
    run: Callable[[int], object], threads: int, least: float, meter: Meter
) -> tuple[float, dict[str, float]]:
    """Return the seconds and the joules of one run, from repeats in ``least`` seconds or more.

    The seconds of one thread are those that the process was running for, if they are fewer: what
    other programs took of the CPU is not the kernel's.
    """
    run(1)
    start = perf_counter()
    run(1)
    once = max(perf_counter() - start, 1e-7)
    times = max(1, round(BATCH_SECONDS / once))
    best, repeats = float("inf"), 0
    before, start = meter.read(), perf_counter()
    while repeats < REPEATS or perf_counter() - start < least:
        begin, begin_running = perf_counter(), process_time()
        run(times)
        running, seconds = process_time() - begin_running, perf_counter() - begin
        best = min(best, seconds, *([running] if threads == 1 else ()))
        repeats += 1
    joules = meter.since(before)
    return best / times, {name: each / (times * repeats) for name, each in joules.items()}


def time_problem(
    libraries: Libraries, problem: Problem, threads: int, least: float, meter: Meter
) -> list[Timing]:
    """Return the times of all candidates with one thread, and of those that can with all threads.

    Raises
    ------
    ArithmeticError
        If a library's result is wrong.
    """
    found = []
    expected = problem.case.expected()
    for count, made in dict.fromkeys(((1, threads), (1, 1), (threads, threads))):
        # MKL chooses a matrix's form by the threads it has: that for several may be faster in one
        with libraries.threads(made):
            candidates = libraries.candidates(problem)
        with libraries.threads(count):
            for candidate in candidates:
                if not (candidate.alone if count == 1 else candidate.parallel):
                    continue
                _check(candidate, problem, expected)
                seconds, joules = time_best(candidate.run, count, least, meter)
                timing = Timing(
                    library=candidate.library, threads=count, seconds=seconds, joules=joules
                )
                found.append(timing)
    return best_of(found)


def best_of(*measured: Sequence[Timing]) -> list[Timing]:
    """Return the fastest of each library and number of threads."""
    found: dict[tuple[str, int], Timing] = {}
    for timing in (timing for timings in measured for timing in timings):
        key = timing.library, timing.threads
        if key not in found or timing.seconds < found[key].seconds:
            found[key] = timing
    return list(found.values())


def _check(candidate: Candidate, problem: Problem, expected: Any) -> None:
    if not same(candidate.result(), expected):
        raise ArithmeticError(f"{problem.name}: the result of {candidate.library} is wrong")
