"""Runs benches on mutants: the first failure ends a run, and so does too much time."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass

from loopnest_sim.build import BuildError
from tb.harness import Run, simulate

PATIENCE = 3.0
"""Times what the sound design takes, after which a mutant hangs."""

GRACE_SECONDS = 10.0
"""Added to that: a busy machine may be slow."""


BROKEN = "no run"
"""What a run says that did not get to the bench."""


@dataclass(frozen=True)
class Ending:
    """How a run ended: ``passed``, ``failed`` or ``hung``; what failed, and seconds."""

    outcome: str
    detail: str
    seconds: float


def try_mutant(run: Run, text: str, number: int, limit: float) -> Ending:
    """Run a bench on a text with mutants, with one of them switched on.

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
        # it is the leader of its own group, which the simulation is in
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
    """Return the seconds that a mutant may take."""
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
