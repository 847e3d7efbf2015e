"""Progress of long tasks, on stderr if that is a terminal, and in notebooks.

Nothing is drawn in a pipe. Tasks only record their progress; a thread draws those that have run for
a while, ten times per second, so the overhead of a task is negligible.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

enabled = os.environ.get("LOOPNEST_PROGRESS", "1") not in ("", "0")
"""The switch for all progress; ``LOOPNEST_PROGRESS=0`` in the environment turns it off."""

DELAY = 1.0
"""Seconds after which a task is drawn."""

PERIOD = 0.1
"""Seconds between two drawings."""

MAX_WAIT = 2.0
"""Maximum seconds that the end of a task waits for its last drawing."""

MAX_TEXT = 40
"""Maximum characters of a task's text that are drawn."""

Tick: TypeAlias = Callable[[int], None]
"""Called with the cycles done so far."""

Watch: TypeAlias = Callable[[int, int], None]
"""Called with the cycles done so far and those expected."""


@dataclass(eq=False)
class Task:
    """A running task.

    Attributes
    ----------
    text : str
    total : int or None
        The expected final value of ``done``.
    unit : str
        The unit of ``done``, shown if not empty.
    keep : bool
        Whether its line is drawn immediately, and stays.
    done : int
    """

    text: str
    total: int | None = None
    unit: str = ""
    keep: bool = False
    done: int = 0
    begin: float = field(default_factory=time.monotonic)
    end: float | None = None
    row: TaskID | None = None

    def advance(self) -> None:
        """Count one more."""
        self.done += 1

    @property
    def label(self) -> str:
        """The text, truncated."""
        return self.text if len(self.text) <= MAX_TEXT else f"{self.text[: MAX_TEXT - 1]}…"

    def figures(self) -> str:
        """Return the amount done, and the remaining or elapsed time."""
        seconds = (self.end or time.monotonic()) - self.begin
        parts = [f"{self.done:,}"] if self.unit and self.done else []
        if parts and self.bounded:
            parts.append(f"of about {self.total:,}")
        parts += [self.unit] * len(parts[:1])
        if self.total is not None and self.bounded and self.done and self.end is None:
            left = seconds * (self.total - self.done) / self.done
            return " ".join([*parts, f"{timedelta(seconds=round(left))} left"])
        return " ".join([*parts, str(timedelta(seconds=int(seconds)))])

    @property
    def bounded(self) -> bool:
        """Whether there is a total that is not exceeded."""
        return self.total is not None and self.done <= self.total


@contextmanager
def task(
    text: str, total: int | None = None, *, unit: str = "", keep: bool = False, show: bool = True
) -> Iterator[Task]:
    """Show a task while the block runs, if there is a terminal or notebook."""
    found = Task(text, total, unit, keep)
    if not (show and visible()):
        yield found
        return
    board = _board
    board.add(found)
    try:
        yield found
    finally:
        board.remove(found)


@contextmanager
def running(text: str, cycles: float, progress: bool | Watch) -> Iterator[Tick]:
    """Yield a function to call with the cycles that a kernel has run.

    Parameters
    ----------
    cycles : float
        The expected cycles.
    progress : bool or callable
        Whether progress is shown, or a function that is called instead.
    """
    expected = max(1, round(cycles))
    if not isinstance(progress, bool):
        yield lambda done: progress(done, expected)
        return
    with task(text, unit="cycles", show=progress) as shown:

        def tick(done: int) -> None:
            shown.done, shown.total = done, expected

        yield tick


def visible() -> bool:
    """Return whether there is a terminal, or a notebook that can draw (by ipywidgets)."""
    if not enabled or sys.stderr is None:
        return False
    if sys.stderr.isatty():
        return os.environ.get("TERM") != "dumb"
    notebook = "IPython" in sys.modules and Console(stderr=True).is_jupyter
    return notebook and find_spec("ipywidgets") is not None


class _Board:
    """The running tasks, and the thread that draws them."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._tasks: list[Task] = []
        self._thread: threading.Thread | None = None
        self._bars: Progress | None = None

    def add(self, new: Task) -> None:
        with self._change:
            self._tasks.append(new)
            if self._thread is None:
                self._thread = threading.Thread(target=self._draw, daemon=True)
                self._thread.start()
            self._change.notify_all()

    def remove(self, old: Task) -> None:
        """Remove a task; later output follows its last drawing."""
        old.end = time.monotonic()
        with self._change:
            if old.row is None and not old.keep and old in self._tasks:
                self._tasks.remove(old)
            self._change.notify_all()
            self._change.wait_for(lambda: old not in self._tasks, timeout=MAX_WAIT)

    def _draw(self) -> None:
        with self._change:
            while True:
                self._change.wait(PERIOD if self._tasks else None)
                try:
                    self._update()
                except Exception:  # a failing display must not end or hang a run
                    self._tasks.clear()
                    self._bars = None
                self._change.notify_all()

    def _update(self) -> None:
        now = time.monotonic()
        for shown in list(self._tasks):
            if shown.row is None and (shown.keep or now - shown.begin >= DELAY):
                if self._bars is None:
                    self._bars = _new_bars()
                    self._bars.start()
                shown.row = self._bars.add_task(shown.label, figures=shown.figures())
            if shown.row is not None and self._bars is not None:
                self._bars.update(
                    shown.row,
                    description=shown.label,
                    total=shown.total if shown.bounded else None,
                    completed=shown.done,
                    figures=shown.figures(),
                )
            if shown.end is not None:
                if not shown.keep and shown.row is not None and self._bars is not None:
                    self._bars.remove_task(shown.row)
                elif shown.row is not None and self._bars is not None:
                    done = max(1, shown.done)
                    self._bars.update(shown.row, total=done, completed=done)
                self._tasks.remove(shown)
        if self._bars is not None:
            self._bars.refresh()
            if not self._tasks:
                self._bars.live.transient = not self._bars.tasks
                self._bars.stop()
                self._bars = None


def _new_bars() -> Progress:
    columns = ("{task.description:<24}", "{task.fields[figures]}")
    # other output is not redirected: stdout may be a file
    return Progress(
        TextColumn(columns[0], markup=False),
        BarColumn(),
        TextColumn(columns[1], markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )


_board = _Board()


def _leave_board() -> None:
    """Give a forked process its own board, since the thread does not exist in it."""
    global _board
    _board = _Board()


os.register_at_fork(after_in_child=_leave_board)
