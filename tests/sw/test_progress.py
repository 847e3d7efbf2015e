"""Progress: on terminals, never in pipes, and never in the way."""

import copy
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from loopnest import Chip, progress
from loopnest.progress import Task, running, task

CHIP = Chip("tiny", dtype="int8", backend="model")


class Terminal:
    """A terminal, which is stderr in a ``with`` block, and what has been written to it."""

    def __init__(self) -> None:
        self._reader, writer = pty.openpty()
        self._stream = open(writer, "w")  # noqa: SIM115
        self._written = bytearray()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # ends with an error where the other end is closed
        with suppress(OSError):
            while found := os.read(self._reader, 4096):
                self._written += found

    def __enter__(self) -> None:
        self._before, sys.stderr = sys.stderr, self._stream

    def __exit__(self, *_: Any) -> None:
        sys.stderr = self._before

    def close(self) -> None:
        self._stream.close()

    @property
    def text(self) -> str:
        """What it shows, and has shown, without the cursor's moves and colours."""
        time.sleep(0.1)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._written.decode(errors="replace"))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Return a terminal on which tasks are drawn at once."""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "enabled", True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    found = Terminal()
    yield found
    found.close()


def wait_until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not ready() and time.monotonic() < end:
        time.sleep(0.02)
    assert ready()


def test_a_task_is_drawn(terminal: Terminal) -> None:
    with terminal:
        with task("walking to the station", 400, unit="steps") as walk:
            wait_until(lambda: "walking to the station" in terminal.text)
            walk.done = 100
            wait_until(lambda: "100 of about 400 steps 0:00:0" in terminal.text)
            assert re.search(r"0:00:0\d left", terminal.text)
            walk.done = 500  # more than was thought
            wait_until(lambda: "500 steps" in terminal.text)
        shown = terminal.text
        time.sleep(0.3)
        assert terminal.text == shown


def test_lines_that_stay(terminal: Terminal) -> None:
    """Also of a task that was over before it could be drawn."""
    with terminal:
        with task("first", 1, keep=True) as first:
            first.advance()
        with task("second", keep=True), task("gone at the end"):
            wait_until(lambda: "gone at the end" in terminal.text)
        lines = [line for line in re.split(r"[\r\n]+", terminal.text) if line.strip()]
        assert lines[0].startswith("first") and "0:00:00" in lines[0]
        assert lines[-1].startswith("second")


def test_several_threads(terminal: Terminal) -> None:
    with terminal:
        gate = threading.Event()

        def work(name: str) -> None:
            with task(name):
                gate.wait(20)

        threads = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: all(f"thread {n}" in terminal.text for n in range(3)))
        finally:
            gate.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def test_short_tasks_are_not_drawn(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal:
        monkeypatch.setattr(progress, "DELAY", 1.0)
        begin = time.monotonic()
        for _ in range(300):
            with task("short"):
                pass
        assert terminal.text == ""
        assert time.monotonic() - begin < 10


def test_kernels(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel's cycles are shown with those expected."""
    with terminal:
        with running("y[i] = A[i,j]", 2000.4, True) as tick:
            tick(500)
            wait_until(lambda: "500 of about 2,000 cycles" in terminal.text)
        assert "y[i] = A[i,j]" in terminal.text


def slow(*_: Any) -> Any:
    """Stand in for a kernel that takes a while."""
    time.sleep(0.5)
    raise ZeroDivisionError


def run_slowly(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("loopnest.kernel.backends.ModelBackend.run", slow)
        with pytest.raises(ZeroDivisionError):
            chip.matmul(np.eye(2), np.eye(2))


def test_a_chip(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal:
        run_slowly(CHIP, monkeypatch)
        assert "C[i,j] = " in terminal.text or "[i,j]" in terminal.text


@pytest.mark.parametrize("switch", ["argument", "module", "environment", "dumb", "pipe"])
def test_switches(switch: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal:
        chip = CHIP
        if switch == "argument":
            chip = Chip("tiny", backend="model", progress=False)
        elif switch == "module":
            monkeypatch.setattr(progress, "enabled", False)
        elif switch == "dumb":
            monkeypatch.setenv("TERM", "dumb")
        if switch == "environment":
            code = "import loopnest.progress; print(loopnest.progress.enabled)"
            for value, expected in (("0", "False"), ("", "False"), ("1", "True")):
                paths = {"PYTHONPATH": os.pathsep.join(sys.path), "LOOPNEST_PROGRESS": value}
                command = [sys.executable, "-c", code]
                printed = subprocess.check_output(command, env=os.environ | paths, text=True)
                assert printed.strip() == expected
        elif switch == "pipe":
            reader, writer = os.pipe()
            monkeypatch.setenv("FORCE_COLOR", "1")  # which makes Rich draw anywhere
            with open(writer, "w") as stream, monkeypatch.context() as patch:
                patch.setattr(sys, "stderr", stream)
                run_slowly(chip, monkeypatch)
            assert os.read(reader, 100) == b""
            os.close(reader)
        else:
            run_slowly(chip, monkeypatch)
            assert terminal.text == ""


def test_a_display_that_fails(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither ends nor hangs what it was to show; the next one is drawn again."""
    with terminal:
        with monkeypatch.context() as patch:
            patch.setattr(progress, "_new_bars", slow)
            with task("hidden", keep=True):
                time.sleep(0.8)
        with task("seen"):
            wait_until(lambda: "seen" in terminal.text)
        assert "hidden" not in terminal.text


def test_in_a_forked_process(terminal: Terminal) -> None:
    with terminal:
        with task("parent"):
            wait_until(lambda: "parent" in terminal.text)
            child = os.fork()
            if not child:
                with task("child"):
                    time.sleep(0.5)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        assert "child" in terminal.text


def test_a_function_of_ones_own() -> None:
    seen: list[tuple[int, int]] = []
    with running("y", 99.6, lambda done, expected: seen.append((done, expected))) as tick:
        tick(7)
    assert seen == [(7, 100)]
    for chip in (Chip("tiny", backend="model", progress=seen.append), copy.copy(CHIP)):
        assert np.array_equal(chip.matmul(np.eye(2), np.eye(2)), np.eye(2))
    bad: Any = "yes"
    with pytest.raises(TypeError, match="progress='yes': expected True, False or a function"):
        Chip(backend="model", progress=bad)


@pytest.mark.parametrize(
    ("done", "total", "expected"),
    [
        (0, None, "0:00:10"),
        (0, 100, "0:00:10"),
        (1234, None, "1,234 cycles 0:00:10"),
        (25, 100, "25 of about 100 cycles 0:00:30 left"),
        (101, 100, "101 cycles 0:00:10"),
    ],
)
def test_figures(
    done: int, total: int | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 110.0)
    assert Task("x", total, "cycles", done=done, begin=100.0).figures() == expected
