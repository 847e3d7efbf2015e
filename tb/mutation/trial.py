"""Runs benches on mutants: the first failure or the time limit ends a run."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass

from loopnest_sim.build import BuildError
from tb.harness import Run, simulate

PATIENCE = 3.0
"""Multiple of the correct design's time after which a mutant counts as hung."""

GRACE_SECONDS = 10.0
"""Added to that, for loaded machines."""


BROKEN = "no run"
"""The outcome of a run that did not reach the bench."""


@dataclass(frozen=True)
class Ending:
    """How a run ended: ``passed``, ``failed`` or ``hung``; what failed, and seconds."""

    outcome: str
    detail: str
    seconds: float


def try_mutant(run: Run, text: str, number: int, limit: float) -> Ending:
    """Run a bench on a text with mutants, with one of them enabled.

    Parameters
    ----------
    limit : float
        Seconds after which it is ended.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=_run, args=(run, text, number, sender))
    start = time.monotonic()
    process.start()
    sender.close()
    process.join(limit)
    if process.is_alive():
        # it leads its own process group, which contains the simulation
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        return Ending("hung", "", time.monotonic() - start)
    try:
        detail = receiver.recv()
    except EOFError:
        detail = f"{BROKEN}: exit code {process.exitcode}"
    if detail.startswith(BROKEN):
        raise RuntimeError(detail)
    seconds = time.monotonic() - start
    return Ending("failed", detail, seconds) if detail else Ending("passed", "", seconds)


def limit_of(sound: Ending) -> float:
    """Return the time limit of a mutant, in seconds."""
    return PATIENCE * sound.seconds + GRACE_SECONDS


def _run(run: Run, text: str, number: int, result: "multiprocessing.connection.Connection") -> None:
    os.setsid()
    os.environ["COCOTB_MAX_FAILURES"] = "1"
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    try:
        simulate(run, text, "verilator", plusargs=[f"+mutant={number}"])
    except BuildError as error:
        result.send(f"{BROKEN}: {error}")
    except AssertionError as error:
        lines = [line for line in str(error).splitlines() if "failed: " in line]
        result.send(lines[-1] if lines else "failed")
    else:
        result.send("")
